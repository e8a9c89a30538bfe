/* A file system that lacks something, for files below a folder `sidecar`. What it lacks is the value
 * of REFUSE: "memory" that processes share (NFS, SMB, some of FUSE), or file "locks". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int refuses(const char *what, int fd) {
    char link[64], path[4096];
    const char *refuse = getenv("REFUSE");
    if (fd < 0 || !refuse || strcmp(refuse, what)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "/sidecar/") != NULL;
}

#define MAP(name, off) \
    void *name(void *at, size_t length, int protection, int flags, int fd, off offset) { \
        void *(*real)(void *, size_t, int, int, int, off) = dlsym(RTLD_NEXT, #name); \
        if ((flags & MAP_SHARED) && refuses("memory", fd)) { \
            errno = ENODEV; \
            return MAP_FAILED; \
        } \
        return real(at, length, protection, flags, fd, offset); \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

#define FCNTL(name) \
    int name(int fd, int command, ...) { \
        int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); \
        va_list arguments; \
        va_start(arguments, command); \
        void *argument = va_arg(arguments, void *); \
        va_end(arguments); \
        if ((command == F_SETLK || command == F_SETLKW) && refuses("locks", fd)) { \
            errno = ENOLCK; \
            return -1; \
        } \
        return real(fd, command, argument); \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

int flock(int fd, int operation) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (refuses("locks", fd)) {
        errno = ENOLCK;
        return -1;
    }
    return real(fd, operation);
}
