/* Proof of life: which processes are attached, and whether one of them is dead.
 *
 *     slot i of the segment      | id = generation << 16 | i | pid | start | namespaces |
 *     byte MPC_LIFE_AT + i       locked (F_OFD_SETLK) by the open file description of the process that owns slot i
 *
 * The kernel drops the lock when nothing refers to that description any more, which every kind of death brings about,
 * also before a zombie is reaped.  Programs close descriptors that they do not know; so a mapping refers to it, too: a
 * page that nobody touches, the pin.  The description must belong to one process alone: fork() gives the child another
 * one, opened beforehand by the parent (it may have changed its user by the time it needs it); the child closes the
 * inherited one, which does not unlock, and does not inherit the pin.
 *
 * Who may not open the file (its process has dropped its privileges and forks again, or sees neither /proc nor the path
 * any more) uses a description that all children share, and that no lock of this kind ever stands on.  Its lock is then
 * one of the process (F_SETLK), whose death frees it, too; other processes see no difference.  But such a lock is also
 * lost when the process closes any descriptor of the file.
 *
 * A raw clone() runs no fork handler, so who I am stands in a page that the kernel wipes for the child. */
#include "registry.h"

#include "lease_table.h"
#include "liveness.h"
#include "procfs.h"
#include "wordlock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOBODY, REGISTERING, REGISTERED };

#define HIGH_DESCRIPTOR 512 /* away from those that programs close or dup2() by number */

static mpc_ctx *mpc_contexts;
static pthread_mutex_t mpc_contexts_lock = PTHREAD_MUTEX_INITIALIZER; /* held while this process forks */

/* -- the descriptor ------------------------------------------------------------------------------------------- */

static int mpc_to_high_fd(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    if (high < 0)
        return fd; /* the limit of descriptors is lower than that */
    close(fd);
    return high;
}

/* The mark is the description's file offset, which nothing else uses; dup() and a descriptor that fork() inherits
 * share it, another open() does not. */
static int mpc_put_mark(const mpc_ctx *ctx, int fd)
{
    if (fd < 0 || lseek(fd, (off_t)ctx->mark, SEEK_SET) >= 0)
        return fd;
    close(fd);
    return -1;
}

/* Another open file description of the same inode, also of one that has no name any more: it takes /proc and the
 * permission to open the file. */
static int mpc_reopen(const mpc_ctx *ctx, int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    return again < 0 ? -1 : mpc_put_mark(ctx, mpc_to_high_fd(again));
}

/* -- who a process is ------------------------------------------------------------------------------------------ */

static void mpc_describe_self(struct mpc_slot *slot)
{
    u64 pid = (u64)getpid();
    mpc_store(&slot->pid, pid);
    mpc_store(&slot->start, mpc_start_time(pid));
    mpc_store(&slot->pid_ns, mpc_namespace_of("/proc/self/ns/pid"));
    mpc_store(&slot->time_ns, mpc_namespace_of("/proc/self/ns/time"));
}

/* -- attach and detach ------------------------------------------------------------------------------------------- */

static void mpc_free_locks_of(mpc_ctx *ctx, u32 slot)
{
    mpc_free_word_of(&ctx->header->namespaces_lock, slot);
    for (u32 i = 0; i < ctx->geometry.shards; i++)
        mpc_free_word_of(&mpc_shard_at(ctx, i)->lock, slot);
    mpc_lease_free_slot(ctx, slot);
}

/* The caller holds byte `which`.  The id goes in last: until then the slot is nobody's, and what still names an
 * earlier incarnation of it is freed. */
static void mpc_occupy_slot(mpc_ctx *ctx, u32 which)
{
    struct mpc_slot *slot = mpc_slot_at(ctx, which);
    mpc_store_release(&slot->id, 0);
    MPC_POINT();
    mpc_free_locks_of(ctx, which);
    u64 generation = mpc_load(&slot->generation) + 1;
    if (generation >> 48)
        generation = 1;
    mpc_store(&slot->generation, generation);
    mpc_describe_self(slot);
    u64 owner = generation << 16 | which;
    mpc_store(&ctx->self->word, mpc_word_of(owner));
    MPC_POINT();
    mpc_store_release(&slot->id, owner);
    mpc_store_release(&ctx->self->owner, owner);
}

/* The first whose byte can be had: the remains of the dead are swept soon, and the table stays dense. */
static bool mpc_take_slot(mpc_ctx *ctx)
{
    for (u32 i = 0; i < ctx->geometry.slots; i++)
        if (mpc_set_liveness(ctx, F_WRLCK, i)) {
            mpc_occupy_slot(ctx, i);
            return true;
        }
    return false;
}

/* Through a descriptor that is there; or by name, where the program has closed those (daemons close all they find).  The
 * caller holds contexts_lock until the result is where the fork handlers find it: a fork in between would leave the
 * description to the child, and the liveness lock held for as long as the child lives. */
static int mpc_open_description_locked(const mpc_ctx *ctx)
{
    int known = mpc_is_our_inode(ctx, ctx->fd) ? ctx->fd : ctx->shared_fd;
    int again = mpc_is_our_inode(ctx, known) ? mpc_reopen(ctx, known) : -1;
    if (again >= 0)
        return again;
    int fd = ctx->path ? open(ctx->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0 || mpc_is_our_inode(ctx, fd))
        return fd < 0 ? -1 : mpc_put_mark(ctx, mpc_to_high_fd(fd));
    close(fd);
    return -1;
}

/* A fork between the two calls would leave the pin to the child, and the byte locked as long as that lives. */
static bool mpc_pin(mpc_ctx *ctx)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pthread_mutex_lock(&mpc_contexts_lock);
    void *at = mmap(NULL, page, PROT_NONE, MAP_SHARED, ctx->fd, 0);
    bool pinned = at != MAP_FAILED && madvise(at, page, MADV_DONTFORK) == 0;
    if (at != MAP_FAILED && !pinned)
        munmap(at, page);
    pthread_mutex_unlock(&mpc_contexts_lock);
    ctx->pin = pinned ? at : NULL;
    return pinned;
}

void mpc_unpin(mpc_ctx *ctx)
{
    if (ctx->pin && ctx->fd_pid == (u64)getpid()) /* in a child there is something else at that address, or nothing */
        munmap(ctx->pin, (size_t)sysconf(_SC_PAGESIZE));
    ctx->pin = NULL;
}

/* `own` < 0: none could be opened. */
static void mpc_use_description(mpc_ctx *ctx, int own)
{
    ctx->by_process = own < 0;
    ctx->fd = own < 0 ? ctx->shared_fd : own;
    ctx->fd_pid = (u64)getpid();
}

/* A number that stands for another description by now is left alone. */
static void mpc_close_description(mpc_ctx *ctx)
{
    if (ctx->fd != ctx->shared_fd && mpc_is_our_description(ctx, ctx->fd))
        close(ctx->fd);
}

void mpc_close_descriptors(mpc_ctx *ctx)
{
    mpc_close_description(ctx);
    if (mpc_is_our_description(ctx, ctx->shared_fd))
        close(ctx->shared_fd);
    ctx->fd = ctx->shared_fd = -1;
}

/* What is closed here is the parent's. */
static bool mpc_take_description_locked(mpc_ctx *ctx)
{
    int mine = mpc_open_description_locked(ctx);
    if (mine < 0 && !mpc_is_our_description(ctx, ctx->shared_fd))
        return false;
    mpc_close_description(ctx);
    mpc_unpin(ctx);
    mpc_use_description(ctx, mine);
    return true;
}

/* Make sure of a description that belongs to this process and not to its parent, before registering. */
static bool mpc_own_description(mpc_ctx *ctx)
{
    if (ctx->fd_pid == (u64)getpid() && mpc_is_our_description(ctx, ctx->fd))
        return true;
    pthread_mutex_lock(&mpc_contexts_lock);
    bool taken = mpc_take_description_locked(ctx);
    pthread_mutex_unlock(&mpc_contexts_lock);
    return taken;
}

static mpc_status mpc_register_new(mpc_ctx *ctx)
{
    if (!mpc_own_description(ctx))
        return MPC_NO_DESCRIPTOR;
    mpc_store(&ctx->self->owner, 0);
    u64 now = mpc_mono_coarse_ns();
    if (now - mpc_load(&ctx->crowded_ns) < MPC_REVALIDATE_NS)
        return MPC_NO_SLOT; /* a thousand system calls at every operation are too many */
    mpc_unpin(ctx);
    if (!mpc_pin(ctx))
        return MPC_SYSTEM;
    if (mpc_take_slot(ctx))
        return MPC_OK;
    mpc_store(&ctx->crowded_ns, now);
    return MPC_NO_SLOT;
}

/* The life goes on without a descriptor, since its description is pinned; but the dead cannot be told by, and children
 * cannot have theirs from, one that is closed. */
static mpc_status mpc_restore_descriptor(mpc_ctx *ctx)
{
    pthread_mutex_lock(&mpc_contexts_lock);
    int fd = mpc_is_our_description(ctx, ctx->fd) ? -1 : mpc_open_description_locked(ctx);
    bool lost = fd >= 0 && ctx->by_process; /* its lock went with the descriptor */
    if (fd >= 0)
        mpc_use_description(ctx, fd);
    pthread_mutex_unlock(&mpc_contexts_lock);
    if (lost)
        mpc_set_liveness(ctx, F_WRLCK, (u32)(mpc_load(&ctx->self->owner) & 0xffff));
    return MPC_OK;
}

static bool mpc_is_registered(mpc_ctx *ctx)
{
    u64 owner = mpc_load_acquire(&ctx->self->owner);
    return owner != 0 && mpc_load_acquire(&mpc_slot_at(ctx, (u32)(owner & 0xffff))->id) == owner;
}

/* One thread registers, the others of its process wait for it.  `state` is wiped by a fork in the middle. */
mpc_status mpc_register(mpc_ctx *ctx)
{
    u32 seen = mpc_load_acquire(&ctx->self->state);
    while (seen == REGISTERING || !mpc_cas32(&ctx->self->state, &seen, REGISTERING)) {
        sched_yield();
        seen = mpc_load_acquire(&ctx->self->state);
    }
    mpc_status status = mpc_is_registered(ctx) ? mpc_restore_descriptor(ctx) : mpc_register_new(ctx);
    atomic_store_explicit(&ctx->self->state, status == MPC_OK ? REGISTERED : NOBODY, memory_order_release);
    return status;
}

/* In this order: were the byte freed before the id, a late store could rob its next owner.  A descriptor that the
 * program has closed is left alone, for its number may be another context's: the byte is freed when mpc_unpin() drops
 * the last reference to the description. */
void mpc_unregister(mpc_ctx *ctx)
{
    u64 owner = mpc_load(&ctx->self->owner);
    if (owner == 0 || ctx->fd_pid != (u64)getpid())
        return;
    u32 which = (u32)(owner & 0xffff);
    if (mpc_load_acquire(&mpc_slot_at(ctx, which)->id) == owner) {
        mpc_lease_free_slot(ctx, which);
        MPC_POINT();
        mpc_cas64(&mpc_slot_at(ctx, which)->id, &owner, 0);
    }
    mpc_store(&ctx->self->owner, 0);
#ifndef MPC_FAULT_UNLOCK_FOREIGN
    if (!mpc_is_our_description(ctx, ctx->fd))
        return;
#endif
    mpc_set_liveness(ctx, F_UNLCK, which);
}

/* -- fork -------------------------------------------------------------------------------------------------------- */

static pthread_once_t mpc_fork_once = PTHREAD_ONCE_INIT;

static void mpc_before_fork(void)
{
    pthread_mutex_lock(&mpc_contexts_lock);
    for (mpc_ctx *ctx = mpc_contexts; ctx; ctx = ctx->next)
        ctx->fd_for_child = mpc_open_description_locked(ctx);
}

static void mpc_after_fork_in_parent(void)
{
    for (mpc_ctx *ctx = mpc_contexts; ctx; ctx = ctx->next) {
        if (ctx->fd_for_child >= 0)
            close(ctx->fd_for_child);
        ctx->fd_for_child = -1;
    }
    pthread_mutex_unlock(&mpc_contexts_lock);
}

static void mpc_after_fork_in_child(void)
{
    for (mpc_ctx *ctx = mpc_contexts; ctx; ctx = ctx->next) {
        ctx->pin = NULL;
        if (ctx->fd_for_child < 0 && !mpc_is_our_description(ctx, ctx->shared_fd))
            continue;
        mpc_close_description(ctx);
        mpc_use_description(ctx, ctx->fd_for_child);
        ctx->fd_for_child = -1;
    }
    pthread_mutex_unlock(&mpc_contexts_lock);
}

static void mpc_install_fork_handlers(void)
{
    pthread_atfork(mpc_before_fork, mpc_after_fork_in_parent, mpc_after_fork_in_child);
}

/* Another descriptor of the caller's description, where none can be opened. */
static int mpc_duplicate(const mpc_ctx *ctx, int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    return mpc_put_mark(ctx, high < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : high);
}

/* Give the context two descriptions, one of its own and one that its children share, made from the caller's descriptor,
 * and let every fork from now on know of them.  Both under the lock that fork() takes: no child can inherit a description that its fork handler does not close. */
bool mpc_join_fork_list(mpc_ctx *ctx, int fd)
{
    pthread_once(&mpc_fork_once, mpc_install_fork_handlers);
    pthread_mutex_lock(&mpc_contexts_lock);
    int own = mpc_reopen(ctx, fd), shared = mpc_reopen(ctx, fd);
    ctx->shared_fd = shared < 0 ? mpc_duplicate(ctx, fd) : shared;
    mpc_use_description(ctx, own < 0 ? mpc_open_description_locked(ctx) : own);
    bool taken = ctx->fd >= 0;
    if (taken) {
        ctx->next = mpc_contexts;
        mpc_contexts = ctx;
    }
    pthread_mutex_unlock(&mpc_contexts_lock);
    return taken;
}

void mpc_leave_fork_list(mpc_ctx *ctx)
{
    pthread_mutex_lock(&mpc_contexts_lock);
    for (mpc_ctx **at = &mpc_contexts; *at; at = &(*at)->next)
        if (*at == ctx) {
            *at = ctx->next;
            break;
        }
    pthread_mutex_unlock(&mpc_contexts_lock);
}
