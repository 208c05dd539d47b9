// Memory for the way out. When there is none left, unwinding needs some: libraries allocate in their
// destructors, and a second failure there would end the program at once. So a little is put aside; the first
// allocation that fails gets it, and the work is stopped soon after.
#pragma once

namespace qtool {

// Puts it aside. Called once, by main.
void reserve_memory();

// Whether it has been needed: the work should end. stop_if_interrupted() asks, too.
bool memory_ran_out();

}  // namespace qtool
