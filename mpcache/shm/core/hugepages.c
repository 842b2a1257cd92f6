/* Huge pages: how a segment is mapped, and how its file gets pages of 2 MiB.
 *
 * 64 MiB are 16,384 pages of 4 KiB. That is more than the processor's TLB holds, so an access to cold memory begins
 * with a page-table walk, and each process takes a page fault for each page that it first touches.  With 2 MiB they
 * are 32 pages.  The kernel makes a file's pages huge on request (MADV_COLLAPSE, Linux 6.1), whatever its settings
 * are, except for "deny". Only a mapping that begins on a multiple of 2 MiB profits. */
#include "hugepages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define LARGE_PAGE ((u64)2 << 20)

/* Map `size` bytes of the file from `offset` on, both multiples of the page size.  NULL: errno says why not. */
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

/* Ask for huge pages between these offsets of a new file.  False: the kernel did not give all of them.  The kernel
 * does not collapse a huge page that is a hole as a whole, so each first gets one small page. */
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
