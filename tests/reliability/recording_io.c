/* Writes down what a process does to the files of one folder, in order. Loaded with LD_PRELOAD.
 *
 * POWER_FOLDER names the folder, POWER_TRACE the file that takes the records; both before the process starts.
 * A record: op (1 byte), inode (8), offset or size (8), length (8), then so many bytes of data.
 *   C a file was created (data: its path)    W written    T cut or lengthened to a size    S brought to the disk
 *   D a folder was brought to the disk       R renamed (data: old NUL new)                 L linked (old NUL new)
 *   U a name was removed                     N a note of the test
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096
static char kind[MOST]; /* of a descriptor: 0 not ours, 1 a file, 2 a folder */
static uint64_t inode[MOST];
static int trace = -1;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    folder = getenv("POWER_FOLDER");
    const char *path = getenv("POWER_TRACE");
    if (folder && path) trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(char op, uint64_t node, uint64_t at, const void *data, uint64_t size) {
    if (trace < 0) return;
    char head[25];
    head[0] = op;
    memcpy(head + 1, &node, 8);
    memcpy(head + 9, &at, 8);
    memcpy(head + 17, &size, 8);
    struct iovec parts[2] = {{head, 25}, {(void *)data, size}};
    int before = errno;
    if (syscall(SYS_writev, trace, parts, size ? 2 : 1) < 0) abort();
    errno = before;
}

void power_note(const char *text) { record('N', 0, 0, text, strlen(text)); }

/* The path from the root, its last part as it is; 1 if it lies in the folder. */
static int ours(const char *path, char *whole) {
    if (!folder || trace < 0) return 0;
    char copy[PATH_MAX], head[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    char *slash = strrchr(copy, '/');
    const char *tail = slash ? slash + 1 : copy;
    if (slash) *slash = 0;
    if (!realpath(slash ? (*copy ? copy : "/") : ".", head)) return 0;
    if (snprintf(whole, PATH_MAX, "%s/%s", head, tail) >= PATH_MAX) return 0;
    size_t size = strlen(folder);
    return !strncmp(whole, folder, size) && (whole[size] == '/' || !whole[size]);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int opened(int fd, const char *path, int flags, int was_there) {
    char whole[PATH_MAX];
    struct stat about;
    if (fd < 0 || fd >= MOST) return fd;
    kind[fd] = 0;
    if (!ours(path, whole) || fstat(fd, &about)) return fd;
    kind[fd] = S_ISDIR(about.st_mode) ? 2 : 1;
    inode[fd] = about.st_ino;
    if (kind[fd] == 1 && !was_there) record('C', about.st_ino, 0, whole, strlen(whole));
    if (kind[fd] == 1 && was_there && (flags & O_TRUNC)) record('T', about.st_ino, 0, "", 0);
    return fd;
}
static int there(const char *path) {
    struct stat about;
    return !lstat(path, &about);
}
#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int was_there = !(flags & O_CREAT) || there(path); \
        return opened(real(path, flags, mode), path, flags, was_there); \
    }
OPENS(open)
OPENS(open64)

int close(int fd) {
    REAL(int, close, int);
    if (fd >= 0 && fd < MOST) kind[fd] = 0;
    return real(fd);
}
static int is_file(int fd) { return fd >= 0 && fd < MOST && kind[fd] == 1; }

ssize_t write(int fd, const void *from, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    ssize_t done = real(fd, from, size);
    if (done > 0 && is_file(fd)) record('W', inode[fd], (uint64_t)lseek(fd, 0, SEEK_CUR) - done, from, done);
    return done;
}
#define WRITES(name, type) \
    ssize_t name(int fd, const void *from, size_t size, type at) { \
        REAL(ssize_t, name, int, const void *, size_t, type); \
        ssize_t done = real(fd, from, size, at); \
        if (done > 0 && is_file(fd)) record('W', inode[fd], at, from, done); \
        return done; \
    }
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)
#define CUTS(name, type) \
    int name(int fd, type size) { \
        REAL(int, name, int, type); \
        int failed = real(fd, size); \
        if (!failed && is_file(fd)) record('T', inode[fd], size, "", 0); \
        return failed; \
    }
CUTS(ftruncate, off_t)
CUTS(ftruncate64, off64_t)
#define SYNCS(name) \
    int name(int fd) { \
        REAL(int, name, int); \
        int failed = real(fd); \
        if (!failed && fd >= 0 && fd < MOST && kind[fd]) record(kind[fd] == 2 ? 'D' : 'S', inode[fd], 0, "", 0); \
        return failed; \
    }
SYNCS(fsync)
SYNCS(fdatasync)
#define LENGTHENS(name, type) \
    int name(int fd, type at, type size) { \
        REAL(int, name, int, type, type); \
        struct stat about; \
        int failed = real(fd, at, size); \
        if (!failed && is_file(fd) && !fstat(fd, &about)) record('T', inode[fd], about.st_size, "", 0); \
        return failed; \
    }
LENGTHENS(posix_fallocate, off_t)
LENGTHENS(posix_fallocate64, off64_t)

static void moved(char op, const char *from, const char *to) {
    char both[2 * PATH_MAX], old[PATH_MAX], new[PATH_MAX];
    int a = ours(from, old), b = ours(to, new);
    if (!a && !b) return;
    size_t size = strlen(old) + 1;
    memcpy(both, old, size);
    memcpy(both + size, new, strlen(new));
    record(op, 0, 0, both, size + strlen(new));
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    int failed = real(from, to);
    if (!failed) moved('R', from, to);
    return failed;
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    int failed = real(from, to);
    if (!failed) moved('L', from, to);
    return failed;
}
int linkat(int from_in, const char *from, int to_in, const char *to, int flags) { /* what Python 3.14 calls */
    REAL(int, linkat, int, const char *, int, const char *, int);
    int failed = real(from_in, from, to_in, to, flags);
    if (!failed && from_in == AT_FDCWD && to_in == AT_FDCWD) moved('L', from, to);
    return failed;
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    char whole[PATH_MAX];
    int mine = ours(path, whole), failed = real(path);
    if (!failed && mine) record('U', 0, 0, whole, strlen(whole));
    return failed;
}
