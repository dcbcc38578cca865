/* Lets one allocation of pamtester fail: the MALLOC_FAIL-th, counted from 1. Or writes how many there
 * were to the file MALLOC_COUNT at the end. Other programs are left alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static long seen, failing;
static int state; /* 0: not asked yet, 1: counts, 2: leaves alone */

static int fails(void)
{
    if (state == 0) {
        const char *at = getenv("MALLOC_FAIL");
        failing = at ? atol(at) : 0;
        state = strcmp(program_invocation_short_name, "pamtester") ? 2 : 1;
    }
    if (state != 1 || __sync_add_and_fetch(&seen, 1) != failing)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return fails() ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { return fails() ? NULL : __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { return fails() ? NULL : __libc_memalign(a, n); }

int posix_memalign(void **p, size_t a, size_t n)
{
    if (fails())
        return ENOMEM;
    *p = __libc_memalign(a, n);
    return *p ? 0 : ENOMEM;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("MALLOC_COUNT");
    if (state != 1 || path == NULL)
        return;
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file >= 0) {
        dprintf(file, "%ld\n", seen);
        close(file);
    }
}
