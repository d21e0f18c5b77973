/* Makes writing system calls below one folder fail, for tests: loaded with LD_PRELOAD.
 *
 * FAILING_DISK_FOLDER names the folder, FAILING_DISK_CONTROL a file of four 64-bit numbers that is
 * shared with the test: how many writing calls there were, the first and the last one to fail, and
 * the error. A call is counted before it is made; one that fails is not made at all.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct control { int64_t count, first, last, error; };
static struct control *control;
static char folder[PATH_MAX];
static size_t length;

__attribute__((constructor)) static void begin(void)
{
    const char *wanted = getenv("FAILING_DISK_FOLDER"), *path = getenv("FAILING_DISK_CONTROL");
    if (!wanted || !path)
        return;
    int (*really_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int handle = really_open(path, O_RDWR);
    if (handle < 0)
        return;
    void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    close(handle);
    if (shared == MAP_FAILED)
        return;
    length = (size_t)snprintf(folder, sizeof folder, "%s", wanted);
    control = shared;
}

static int fails(void)
{
    int64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
    if (number < control->first || number > control->last)
        return 0;
    errno = (int)control->error;
    return 1;
}

static int inside(const char *path)
{
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int path_fails(const char *path)
{
    return control && path && inside(path) && fails();
}

static int at_fails(int at, const char *path)
{
    char name[64], found[PATH_MAX];
    if (!control || !path)
        return 0;
    if (path[0] == '/' || at == AT_FDCWD)
        return path_fails(path);
    snprintf(name, sizeof name, "/proc/self/fd/%d", at);
    ssize_t size = readlink(name, found, sizeof found - 1);
    if (size < 0)
        return 0;
    found[size] = 0;
    return inside(found) && fails();
}

static int handle_fails(int handle)
{
    return control && at_fails(handle, "");
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int h, const void *data, size_t n)
{ REAL(write); return handle_fails(h) ? -1 : real(h, data, n); }
ssize_t writev(int h, const struct iovec *v, int n)
{ REAL(writev); return handle_fails(h) ? -1 : real(h, v, n); }
ssize_t pwrite(int h, const void *data, size_t n, off_t at)
{ REAL(pwrite); return handle_fails(h) ? -1 : real(h, data, n, at); }
ssize_t pwrite64(int h, const void *data, size_t n, off64_t at)
{ REAL(pwrite64); return handle_fails(h) ? -1 : real(h, data, n, at); }
int fsync(int h)
{ REAL(fsync); return handle_fails(h) ? -1 : real(h); }
int fdatasync(int h)
{ REAL(fdatasync); return handle_fails(h) ? -1 : real(h); }
int ftruncate(int h, off_t n)
{ REAL(ftruncate); return handle_fails(h) ? -1 : real(h, n); }
int ftruncate64(int h, off64_t n)
{ REAL(ftruncate64); return handle_fails(h) ? -1 : real(h, n); }
int mkdir(const char *p, mode_t m)
{ REAL(mkdir); return path_fails(p) ? -1 : real(p, m); }
int mkdirat(int a, const char *p, mode_t m)
{ REAL(mkdirat); return at_fails(a, p) ? -1 : real(a, p, m); }
int rename(const char *p, const char *q)
{ REAL(rename); return path_fails(q) ? -1 : real(p, q); }
int renameat(int a, const char *p, int b, const char *q)
{ REAL(renameat); return at_fails(b, q) ? -1 : real(a, p, b, q); }
int link(const char *p, const char *q)
{ REAL(link); return path_fails(q) ? -1 : real(p, q); }
int unlink(const char *p)
{ REAL(unlink); return path_fails(p) ? -1 : real(p); }
int unlinkat(int a, const char *p, int f)
{ REAL(unlinkat); return at_fails(a, p) ? -1 : real(a, p, f); }
int rmdir(const char *p)
{ REAL(rmdir); return path_fails(p) ? -1 : real(p); }

#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & (O_CREAT | O_TRUNC)))
#define MODE(flags) mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) \
    { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *p, int flags, ...)
{ MODE(flags) REAL(open); return WRITES(flags) && path_fails(p) ? -1 : real(p, flags, mode); }
int open64(const char *p, int flags, ...)
{ MODE(flags) REAL(open64); return WRITES(flags) && path_fails(p) ? -1 : real(p, flags, mode); }
int openat(int a, const char *p, int flags, ...)
{ MODE(flags) REAL(openat); return WRITES(flags) && at_fails(a, p) ? -1 : real(a, p, flags, mode); }
int openat64(int a, const char *p, int flags, ...)
{ MODE(flags) REAL(openat64); return WRITES(flags) && at_fails(a, p) ? -1 : real(a, p, flags, mode); }
