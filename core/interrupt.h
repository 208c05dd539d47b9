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

// From now on SIGINT and SIGTERM do nothing, and one that came is forgotten: the work is done and must not be
// called interrupted by what is left to say of it.
void ignore_interrupts();

// Throws Error(kInterrupted) if so, and Error(kMemory) once memory has run out.
void stop_if_interrupted();

}  // namespace qtool
