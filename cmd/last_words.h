// What is said when not even an error can be reported in the usual way, because there is no memory for it.
#pragma once

namespace qtool {

// The sentence on stderr, as JSON where the arguments ask for it; the exit code. Allocates nothing.
int last_words(int argc, char** argv);

// The same where want of memory ends the program in a place that cannot throw; arguments are those of main.
void expect_last_words(int argc, char** argv);

}  // namespace qtool
