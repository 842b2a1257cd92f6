/* Pages: how a segment is mapped, and how its file comes to have large ones.
 *
 * 64 MiB are 16,384 pages of 4 KiB: more than a processor keeps the places of, so a look at what is not hot begins with
 * a walk through page tables, and each process takes a fault for each page that it comes to.  They are 32 of 2 MiB.  The
 * kernel makes a file's pages large where it is asked to (MADV_COLLAPSE, Linux 6.1), whatever its settings say short of
 * "deny"; a mapping has the good of it that begins on a border of 2 MiB. */
#include "hugepages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define LARGE_PAGE ((u64)2 << 20)

/* Map so much of the file from `offset` on, both on a border; NULL: errno says why not. */
static void *mpc_map_from(int fd, u64 offset, u64 size)
{
    u64 room = size + LARGE_PAGE;
    u8 *found = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED)
        return NULL;
    u64 start = mpc_round_up((uintptr_t)found, LARGE_PAGE) - (uintptr_t)found;
    u64 end = mpc_round_up(start + size, (u64)sysconf(_SC_PAGESIZE));
    void *base = mmap(found + start, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
    int saved = errno;
    if (base == MAP_FAILED)
        munmap(found, room);
    else if (start > 0)
        munmap(found, start);
    if (base != MAP_FAILED && end < room)
        munmap(found + end, room - end);
    errno = saved;
    return base == MAP_FAILED ? NULL : base;
}

void *mpc_map(int fd, u64 size)
{
    return mpc_map_from(fd, 0, size);
}

/* Ask for large pages between these offsets of a new file.  False: the kernel did not give all of them.  What is a hole as
 * a whole stays one, so each gets a small page before. */
bool mpc_make_large(int fd, u64 from, u64 to)
{
    u64 first = mpc_round_up(from, LARGE_PAGE), last = to / LARGE_PAGE * LARGE_PAGE;
    for (u64 at = first; at < last; at += LARGE_PAGE)
        if (posix_fallocate(fd, (off_t)at, 1) != 0)
            return false;
    void *window = first < last ? mpc_map_from(fd, first, last - first) : NULL;
    if (!window)
        return first >= last;
    madvise(window, last - first, MADV_DONTFORK); /* a child that is forked meanwhile would keep the file's memory */
    bool large = madvise(window, last - first, MADV_COLLAPSE) == 0;
    munmap(window, last - first);
    return large;
}
