/* Liveness: whether a process that is registered in the segment is dead.
 *
 *     slot i of the segment      | id = generation << 16 | i | pid | start | namespaces |
 *     byte MPC_LIFE_AT + i       locked (F_OFD_SETLK) by the open file description of the process that owns slot i
 *
 * The kernel drops the lock when nothing refers to that description any more, which every kind of death brings about,
 * also before a zombie is reaped.  registry.c takes the lock and keeps the description; this file asks. */
#include "liveness.h"

#include "procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- the description -------------------------------------------------------------------------------------------- */

bool mpc_is_our_inode(const mpc_ctx *ctx, int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && (u64)st.st_dev == ctx->dev && (u64)st.st_ino == ctx->ino;
}

/* Programs close descriptors that they do not know.  By now another file may have the number, or a descriptor of the
 * same segment that another context of this process opened: its locks are not this context's, and must not be
 * released, closed or asked about through it. */
bool mpc_is_our_description(const mpc_ctx *ctx, int fd)
{
    return mpc_is_our_inode(ctx, fd) && lseek(fd, 0, SEEK_CUR) == (off_t)ctx->mark;
}

/* -- the liveness bytes ----------------------------------------------------------------------------------------- */

static struct flock mpc_liveness_lock(short type, u32 slot, u32 count)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = MPC_LIFE_AT + slot, .l_len = count};
}

bool mpc_set_liveness(const mpc_ctx *ctx, short type, u32 slot)
{
    struct flock lock = mpc_liveness_lock(type, slot, 1);
    return fcntl(ctx->fd, ctx->by_process ? F_SETLK : F_OFD_SETLK, &lock) == 0;
}

/* Whether any process is attached to the segment behind fd; an error counts as yes. */
bool mpc_anyone_alive(int fd, u32 slots, int *system_error)
{
    struct flock lock = mpc_liveness_lock(F_WRLCK, 0, slots);
    if (fcntl(fd, F_OFD_GETLK, &lock) == 0)
        return lock.l_type != F_UNLCK;
    *system_error = errno;
    return true;
}

/* -- judging a process ------------------------------------------------------------------------------------------ */

/* The pid of the slot's process as this process may use it: known and in the same non-zero namespaces; else 0. */
static u64 mpc_visible_pid(const mpc_ctx *ctx, const struct mpc_slot *slot)
{
    u64 me = mpc_load(&ctx->self->owner);
    if (me == 0)
        return 0;
    const struct mpc_slot *mine = mpc_slot_at(ctx, (u32)(me & 0xffff));
    u64 pid_ns = mpc_load(&slot->pid_ns), time_ns = mpc_load(&slot->time_ns);
    if (pid_ns == 0 || pid_ns != mpc_load(&mine->pid_ns) || time_ns == 0 || time_ns != mpc_load(&mine->time_ns))
        return 0;
    u64 pid = mpc_load(&slot->pid);
    return pid <= INT32_MAX ? pid : 0;
}

/* Says so only when it can be known: no such process is there, or one that started at another time. */
static bool mpc_process_is_gone(const mpc_ctx *ctx, const struct mpc_slot *slot)
{
    u64 pid = mpc_visible_pid(ctx, slot), start = mpc_load(&slot->start);
    if (pid == 0)
        return false;
    if (kill((pid_t)pid, 0) != 0)
        return errno == ESRCH;
    u64 now = mpc_start_time(pid);
    return start != 0 && now != 0 && now != start;
}

/* A forked child that could get no description of its own has its parent's: that does not show the parent's locks. */
static bool mpc_liveness_is_unlocked(const mpc_ctx *ctx, u32 slot)
{
    struct flock lock = mpc_liveness_lock(F_WRLCK, slot, 1);
    return ctx->fd_pid == (u64)getpid() && mpc_is_our_description(ctx, ctx->fd) &&
           fcntl(ctx->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* Whether the process with this id is certainly dead.  Unknown proves nothing. */
bool mpc_is_dead(mpc_ctx *ctx, u64 owner)
{
    u32 which = (u32)(owner & 0xffff);
    if (which >= ctx->geometry.slots)
        return true; /* no process was ever called so */
    struct mpc_slot *slot = mpc_slot_at(ctx, which);
    if (mpc_load_acquire(&slot->id) != owner)
        return true;
    if (owner == mpc_load(&ctx->self->owner))
        return false; /* my own locks do not show in F_OFD_GETLK */
    bool dead = mpc_liveness_is_unlocked(ctx, which) || mpc_process_is_gone(ctx, slot);
    return dead || mpc_load_acquire(&slot->id) != owner;
}

/* Whether the process with this id is known to be on a core, or to wait for one: it is slow, and not stopped. */
bool mpc_wants_to_run(mpc_ctx *ctx, u64 owner)
{
    u32 which = (u32)(owner & 0xffff);
    u64 pid = owner != 0 && which < ctx->geometry.slots ? mpc_visible_pid(ctx, mpc_slot_at(ctx, which)) : 0;
    return pid != 0 && mpc_is_runnable(pid);
}

u64 mpc_pid_of(mpc_ctx *ctx, u64 owner)
{
    u32 which = (u32)(owner & 0xffff);
    if (owner == 0 || which >= ctx->geometry.slots)
        return 0;
    struct mpc_slot *slot = mpc_slot_at(ctx, which);
    u64 pid = mpc_load(&slot->pid);
    return mpc_load_acquire(&slot->id) == owner ? pid : 0;
}
