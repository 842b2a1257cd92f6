/* What /proc says of a process: when it started, in which namespaces it lives, whether it wants a core.
 *
 * No malloc: a waiter may ask while it holds a word lock.  Every answer may be "unknown" (0, or false), since /proc may
 * be hidden, or not mounted in a chroot. */
#include "procfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMES_BYTES 1024 /* of directory entries that are read at once */

struct directory_entry { /* getdents64(2); libc's reader would allocate */
    u64 inode;
    i64 offset;
    u16 bytes;
    u8 type;
    char name[];
};

/* The fields of a stat file from the third, the state, on; the name before it may hold blanks and brackets. */
static const char *mpc_read_stat_fields(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t got = read(fd, text, room - 1);
    close(fd);
    if (got <= 0)
        return NULL;
    text[got] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' ? name_end + 2 : NULL;
}

/* The start time of a process, in clock ticks since boot (proc(5), field 22 of stat). */
u64 mpc_start_time(u64 pid)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)pid);
    const char *at = mpc_read_stat_fields(path, text, sizeof text);
    for (int field = 3; at && field < 22; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

/* The inode number of the namespace behind a link such as /proc/self/ns/pid. */
u64 mpc_namespace_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (u64)st.st_ino : 0;
}

static bool mpc_thread_is_runnable(u64 pid, const char *thread)
{
    char path[80], text[1024];
    snprintf(path, sizeof path, "/proc/%llu/task/%.20s/stat", (unsigned long long)pid, thread);
    const char *state = mpc_read_stat_fields(path, text, sizeof text);
    return state && *state == 'R';
}

static bool mpc_any_is_runnable(u64 pid, const char *names, long bytes, u64 asking)
{
    for (long at = 0; at < bytes;) {
        const struct directory_entry *entry = (const struct directory_entry *)(names + at);
        u64 thread = strtoull(entry->name, NULL, 10); /* 0 for "." and ".." */
        if (thread != 0 && thread != asking && mpc_thread_is_runnable(pid, entry->name))
            return true;
        at += entry->bytes;
    }
    return false;
}

/* Whether any thread of the process, other than the one that asks, is on a core or waits for one.  None is while the
 * process is stopped (job control, a debugger, the cgroup freezer). */
bool mpc_is_runnable(u64 pid)
{
    char path[40];
    _Alignas(struct directory_entry) char names[NAMES_BYTES];
    snprintf(path, sizeof path, "/proc/%llu/task", (unsigned long long)pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    u64 asking = (u64)syscall(SYS_gettid);
    bool runnable = false;
    for (long got; !runnable && (got = syscall(SYS_getdents64, fd, names, sizeof names)) > 0;)
        runnable = mpc_any_is_runnable(pid, names, got, asking);
    close(fd);
    return runnable;
}
