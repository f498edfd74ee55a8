/* Makes the N-th call that the process makes on a store's files fail. Loaded with LD_PRELOAD; armed through ctypes.
 *
 * A file belongs to a store if its path holds the text in FAULTY_NAME.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define MOST 4096
static char ours[MOST];
static long calls, syncs, fail_at;
static int fail_with, fail_on;

void faulty_arm(long at, int with, int on) { calls = 0; fail_at = at; fail_with = with; fail_on = on; }
long faulty_calls(void) { return calls; }
long faulty_syncs(void) { return syncs; }

static int fails_at(int on) {
    calls++;
    if (fail_at == 0 || calls < fail_at || (calls > fail_at && !on)) return 0;
    errno = fail_with;
    return 1;
}
static int fails(void) { return fails_at(fail_on); }
static int fails_once(void) { return fails_at(0); } /* a lock that is never given is a wait, not a fault */
static int is_ours(int fd) { return fd >= 0 && fd < MOST && ours[fd]; }

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

int open64(const char *path, int flags, ...) {
    REAL(int, open64, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    const char *name = getenv("FAULTY_NAME");
    int mine = name && strstr(path, name);
    if (mine && fails()) return -1;
    int fd = real(path, flags, mode);
    if (fd >= 0 && fd < MOST) ours[fd] = mine ? 1 : 0;
    return fd;
}
int close(int fd) {
    REAL(int, close, int);
    if (fd >= 0 && fd < MOST) ours[fd] = 0;
    return real(fd);
}
ssize_t pread64(int fd, void *to, size_t size, off64_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return is_ours(fd) && fails() ? -1 : real(fd, to, size, at);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return is_ours(fd) && fails() ? -1 : real(fd, from, size, at);
}
int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    syncs += is_ours(fd);
    return is_ours(fd) && fails() ? -1 : real(fd);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    syncs += is_ours(fd);
    return is_ours(fd) && fails() ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return is_ours(fd) && fails() ? -1 : real(fd, size);
}
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t begin) {
    REAL(void *, mmap64, void *, size_t, int, int, int, off64_t);
    return is_ours(fd) && fails() ? MAP_FAILED : real(at, size, protection, flags, fd, begin);
}
int fcntl64(int fd, int command, ...) {
    REAL(int, fcntl64, int, int, ...);
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (is_ours(fd) && (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK && fails_once())
        return -1;
    return real(fd, command, argument);
}
