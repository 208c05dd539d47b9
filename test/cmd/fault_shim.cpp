// Loaded before the C library (LD_PRELOAD), this lets the N-th call of one kind fail:
//
//   FAULT_CALL   the kind: "open", "pwrite", "malloc", ...; see below
//   FAULT_NTH    which call, counted from 1 from the entry of main() on; 0 for none
//   FAULT_ERROR  the errno it fails with; 0: half of what was asked for is done ("short count"); -1: instead
//   of the
//                call the process is killed
//   FAULT_LAST   "once": it alone fails; "on": all that follow, too
//   FAULT_LOG    a file that gets the number of calls counted, when the program ends
//
// Calls inside the C library (fprintf's write, fopen's open) are its own and not seen.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

std::atomic<bool> armed{false};
std::atomic<long> calls{0};
char kind[32];
long nth = 0;
int error = 0;
bool goes_on = false;
const char* log_file = nullptr;

void read_settings() {
  const auto text = [](const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
  };
  std::strncpy(kind, text("FAULT_CALL"), sizeof kind - 1);
  nth = std::atol(text("FAULT_NTH"));
  error = std::atoi(text("FAULT_ERROR"));
  goes_on = std::strcmp(text("FAULT_LAST"), "on") == 0;
  log_file = text("FAULT_LOG");
}

void write_count() {
  const int file =
      static_cast<int>(syscall(SYS_openat, AT_FDCWD, log_file, O_CREAT | O_WRONLY | O_TRUNC, 0600));
  char digits[24];
  int used = sizeof digits;
  digits[--used] = '\n';
  for (long left = calls.load(); left > 0 || used == sizeof digits - 1; left /= 10)
    digits[--used] = static_cast<char>('0' + left % 10);
  syscall(SYS_write, file, digits + used, sizeof digits - static_cast<std::size_t>(used));
  syscall(SYS_close, file);
}

// Whether this call is to fail.
bool fails(const char* call) {
  if (!armed.load(std::memory_order_relaxed) || std::strcmp(call, kind) != 0) return false;
  const long number = ++calls;
  if (nth == 0 || number < nth || (number > nth && !goes_on)) return false;
  if (error < 0) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  errno = error;
  return true;
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::size_t half(std::size_t count) { return count > 1 ? count / 2 : count; }

using Main = int(int, char**, char**);
Main* real_main = nullptr;

int armed_main(int argc, char** argv, char** environment) {
  armed = true;
  const int code = real_main(argc, argv, environment);
  armed = false;  // the destructors of static objects run on their own
  if (log_file && *log_file) write_count();
  return code;
}

}  // namespace

extern "C" {

int __libc_start_main(Main* program, int argc, char** argv, void (*init)(), void (*fini)(),
                      void (*loader_fini)(), void* stack_end) {
  read_settings();
  real_main = program;
  using Start = int(Main*, int, char**, void (*)(), void (*)(), void (*)(), void*);
  return real<Start>("__libc_start_main")(armed_main, argc, argv, init, fini, loader_fini, stack_end);
}

// Calls that do all or nothing: the real name, what the kind is called, the value of a failure.
#define ALL_OR_NOTHING(result, name, call, failure, parameters, arguments) \
  result name parameters {                                                 \
    static auto* const next = real<result parameters>(#name);              \
    if (fails(call)) return failure;                                       \
    return next arguments;                                                 \
  }

ALL_OR_NOTHING(int, mkdir, "mkdir", -1, (const char* path, mode_t mode), (path, mode))
ALL_OR_NOTHING(int, rename, "rename", -1, (const char* from, const char* to), (from, to))
ALL_OR_NOTHING(int, renameat2, "rename", -1, (int a, const char* from, int b, const char* to, unsigned flags),
               (a, from, b, to, flags))
ALL_OR_NOTHING(int, unlink, "unlink", -1, (const char* path), (path))
ALL_OR_NOTHING(int, fsync, "fsync", -1, (int file), (file))
ALL_OR_NOTHING(int, ftruncate, "ftruncate", -1, (int file, off_t bytes), (file, bytes))
ALL_OR_NOTHING(int, ftruncate64, "ftruncate", -1, (int file, off64_t bytes), (file, bytes))
ALL_OR_NOTHING(int, flock, "flock", -1, (int file, int operation), (file, operation))
ALL_OR_NOTHING(int, fstat, "fstat", -1, (int file, struct stat* status), (file, status))
ALL_OR_NOTHING(int, statvfs, "statvfs", -1, (const char* path, struct statvfs* status), (path, status))
ALL_OR_NOTHING(DIR*, opendir, "opendir", nullptr, (const char* path), (path))
ALL_OR_NOTHING(DIR*, fdopendir, "opendir", nullptr, (int file), (file))
ALL_OR_NOTHING(void*, mmap, "mmap", MAP_FAILED,
               (void* at, size_t n, int protection, int flags, int file, off_t offset),
               (at, n, protection, flags, file, offset))
ALL_OR_NOTHING(int, pthread_create, "pthread_create", error,
               (pthread_t * thread, const pthread_attr_t* how, void* (*start)(void*), void* argument),
               (thread, how, start, argument))

// Those that may do a part.
#define COUNTED(name, call, parameters, whole, part)           \
  ssize_t name parameters {                                    \
    static auto* const next = real<ssize_t parameters>(#name); \
    if (!fails(call)) return next whole;                       \
    return error ? -1 : next part;                             \
  }

COUNTED(read, "read", (int file, void* to, size_t n), (file, to, n), (file, to, half(n)))
COUNTED(pread, "pread", (int file, void* to, size_t n, off_t at), (file, to, n, at), (file, to, half(n), at))
COUNTED(pread64, "pread", (int file, void* to, size_t n, off64_t at), (file, to, n, at),
        (file, to, half(n), at))
COUNTED(write, "write", (int file, const void* from, size_t n), (file, from, n), (file, from, half(n)))
COUNTED(writev, "write", (int file, const iovec* from, int n), (file, from, n), (file, from, n))
COUNTED(pwrite, "pwrite", (int file, const void* from, size_t n, off_t at), (file, from, n, at),
        (file, from, half(n), at))
COUNTED(pwrite64, "pwrite", (int file, const void* from, size_t n, off64_t at), (file, from, n, at),
        (file, from, half(n), at))

// With a mode where there is one to read.
#define OPENING(name)                                                             \
  int name(const char* path, int flags, ...) {                                    \
    static auto* const next = real<int(const char*, int, ...)>(#name);            \
    va_list rest;                                                                 \
    va_start(rest, flags);                                                        \
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                                 \
    return fails("open") ? -1 : next(path, flags, mode);                          \
  }
OPENING(open)
OPENING(open64)

FILE* fopen(const char* path, const char* mode) {
  static auto* const next = real<FILE*(const char*, const char*)>("fopen");
  return fails("open") ? nullptr : next(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  static auto* const next = real<FILE*(const char*, const char*)>("fopen64");
  return fails("open") ? nullptr : next(path, mode);
}

// The C library's own names of these: dlsym() itself allocates.
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) { return fails("malloc") ? nullptr : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return fails("malloc") ? nullptr : __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return fails("malloc") ? nullptr : __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) {
  return fails("malloc") ? nullptr : __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  if (fails("malloc")) return ENOMEM;
  *out = __libc_memalign(alignment, bytes);
  return *out ? 0 : ENOMEM;
}

}  // extern "C"
