// Ctrl-C as a flag: long loops ask for it and unwind, so that half-written folders are removed on the way
// out.
#pragma once

namespace qtool {

// From now on SIGINT and SIGTERM raise the flag; a second one ends the process at once. Called once, by main.
void catch_interrupts();

// Whether the user asked the program to stop. Cheap enough for every piece of work.
bool interrupted();

// Takes a Ctrl-C back, for work that has an end of its own: whether there was one. A SIGTERM stays.
bool dismiss_interrupt();

// Throws Error(kInterrupted) if so.
void stop_if_interrupted();

}  // namespace qtool
