// <immintrin.h> without the false alarms of GCC 12 (PR105593): its "undefined" vectors warn that they are not
// initialized.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
