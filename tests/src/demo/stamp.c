/* stamp FILE [COMMAND [ARGUMENT...]]: appends the moment at which its main() ran to FILE, as
 * "REALTIME_NS BOOTTIME_NS", then becomes the command. Static and tiny, so that the moment is
 * that of the exec and not of a dynamic linker.
 * Built with -DFILE_AND_COMMAND='"FILE", "COMMAND"' it takes both from there and no arguments. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static long long ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t))
        return -1;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    long long real = ns(CLOCK_REALTIME), boot = ns(CLOCK_BOOTTIME);
#ifdef FILE_AND_COMMAND
    char *fixed[] = { argv[0], FILE_AND_COMMAND, NULL };
    argv = fixed;
    argc = 3;
#endif
    int fd = argc > 1 ? open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0 || dprintf(fd, "%lld %lld\n", real, boot) < 0) {
        perror("stamp");
        return 1;
    }
    if (argc > 2) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        return 127;
    }
    return 0;
}
