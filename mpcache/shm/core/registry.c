/* The registry: how a process becomes the owner of a process slot, and shows that it is alive.
 *
 *     slot i of the segment      | id = generation << 16 | i | pid | start | namespaces |
 *     byte MPC_LIFE_AT + i       locked (F_OFD_SETLK) by the open file description of the process that owns slot i
 *
 * The kernel drops the lock when nothing refers to that description any more, which every kind of death brings about
 * (liveness.c asks for it). Programs close descriptors that they do not know; so a mapping refers to the description,
 * too: a page that no code touches, the pin.
 *
 * The description must belong to one process alone.  fork() gives the child another one, which the parent opens
 * beforehand, because the child may have changed its user by the time it needs it.  The child closes the inherited one,
 * which does not unlock, and does not inherit the pin.
 *
 * A process may be unable to open the file: it has dropped its privileges and forks again, or sees neither /proc nor
 * the path any more.  It then uses a description that all children share, on which no lock of this kind ever stands.
 * Its lock is one of the process (F_SETLK), which its death also frees; other processes see no difference.  But such a
 * lock is also lost when the process closes any descriptor of the file.
 *
 * A raw clone() runs no fork handler.  So the identity of the process lies in a page that the kernel wipes for the
 * child. */
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

enum { UNREGISTERED, REGISTERING, REGISTERED };

#define HIGH_DESCRIPTOR 512 /* away from those that programs close or dup2() by number */

static mpc_ctx *mpc_contexts;
static pthread_mutex_t mpc_contexts_lock = PTHREAD_MUTEX_INITIALIZER; /* held while this process forks */

/* -- the open file description ------------------------------------------------------------------------------------- */

static int mpc_to_high_fd(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    if (high < 0)
        return fd; /* the limit of descriptors is lower */
    close(fd);
    return high;
}

/* Set the mark: the description's file offset, which nothing else uses.  dup() and a descriptor that fork() inherits
 * share it, another open() does not. */
static int mpc_put_mark(const mpc_ctx *ctx, int fd)
{
    if (fd < 0 || lseek(fd, (off_t)ctx->mark, SEEK_SET) >= 0)
        return fd;
    close(fd);
    return -1;
}

/* Open another file description of the same inode, also of one that has no name any more.  This takes /proc and the
 * permission to open the file. */
static int mpc_reopen(const mpc_ctx *ctx, int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    return again < 0 ? -1 : mpc_put_mark(ctx, mpc_to_high_fd(again));
}

/* -- becoming the owner of a slot ---------------------------------------------------------------------------------- */

static void mpc_describe_self(struct mpc_slot *slot)
{
    u64 pid = (u64)getpid();
    mpc_store(&slot->pid, pid);
    mpc_store(&slot->start, mpc_start_time(pid));
    mpc_store(&slot->pid_ns, mpc_namespace_of("/proc/self/ns/pid"));
    mpc_store(&slot->time_ns, mpc_namespace_of("/proc/self/ns/time"));
}

/* -- attach and detach --------------------------------------------------------------------------------------------- */

static void mpc_free_locks_of(mpc_ctx *ctx, u32 slot)
{
    mpc_free_word_of(&ctx->header->namespaces_lock, slot);
    mpc_free_word_of(&ctx->header->functions_lock, slot);
    for (u32 i = 0; i < ctx->geometry.shards; i++)
        mpc_free_word_of(&mpc_shard_at(ctx, i)->lock, slot);
    mpc_lease_free_slot(ctx, slot);
}

/* Make this process the owner of slot `which`, whose liveness byte the caller holds.  The id is stored last: until
 * then the slot has no owner, and what still names an earlier incarnation of it is freed. */
static void mpc_occupy_slot(mpc_ctx *ctx, u32 which)
{
    struct mpc_slot *slot = mpc_slot_at(ctx, which);
    mpc_store_release(&slot->id, 0);
    MPC_POINT();
    mpc_free_locks_of(ctx, which);
#ifdef MPC_FAULT_DEAD_COUNTED_TWICE
    for (u32 i = 0; i < MPC_REQUEST_WORDS; i++) {
        u64 word = mpc_load(&slot->requests[i]), tag = (word >> 48) - 1;
        if (word != 0)
            mpc_add(&mpc_stripe_at(ctx, (u16)(tag & 0xff), which)->tally[tag >> 8], word << 16 >> 16);
    }
#endif
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

/* Take the first slot whose liveness byte can be locked: what the dead left is freed soon, and the table stays
 * dense. */
static bool mpc_take_slot(mpc_ctx *ctx)
{
    for (u32 i = 0; i < ctx->geometry.slots; i++)
        if (mpc_set_liveness(ctx, F_WRLCK, i)) {
            mpc_occupy_slot(ctx, i);
            return true;
        }
    return false;
}

/* Open another description: through a descriptor that is there; or by name, if the program has closed those (daemons
 * close all that they find). The caller holds mpc_contexts_lock until the fork handlers can find the result: a fork
 * in between would leave the description to the child, and the liveness lock held for as long as the child lives. */
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

/* Map the pin.  A fork between the two calls would leave the pin to the child, and the byte locked as long as the
 * child lives: so the lock that fork() takes is held. */
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
    if (ctx->pin && ctx->fd_pid == (u64)getpid()) /* in a child another mapping is at that address, or none */
        munmap(ctx->pin, (size_t)sysconf(_SC_PAGESIZE));
    ctx->pin = NULL;
}

/* Use the description `own`; < 0: none could be opened, and the shared one is used. */
static void mpc_use_description(mpc_ctx *ctx, int own)
{
    ctx->by_process = own < 0;
    ctx->fd = own < 0 ? ctx->shared_fd : own;
    ctx->fd_pid = (u64)getpid();
}

/* Close the context's descriptor, unless its number stands for another description by now. */
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

/* Take a description for this process, and close the parent's. */
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

/* Make sure that the description belongs to this process and not to its parent, before registering. */
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

/* Replace a descriptor that the program has closed.  The liveness lock is kept without one, since the description is
 * pinned; but without a descriptor this process can neither judge others nor open descriptions for its children. */
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

/* Register this process.  One thread does, the others of the process wait for it.  `state` is wiped by a fork in the
 * middle. */
mpc_status mpc_register(mpc_ctx *ctx)
{
    u32 seen = mpc_load_acquire(&ctx->self->state);
    while (seen == REGISTERING || !mpc_cas32(&ctx->self->state, &seen, REGISTERING)) {
        sched_yield();
        seen = mpc_load_acquire(&ctx->self->state);
    }
    mpc_status status = mpc_is_registered(ctx) ? mpc_restore_descriptor(ctx) : mpc_register_new(ctx);
    atomic_store_explicit(&ctx->self->state, status == MPC_OK ? REGISTERED : UNREGISTERED, memory_order_release);
    return status;
}

/* Give the slot back.  The id is cleared before the byte is freed: in the other order a late store could rob the
 * byte's next owner.  A descriptor that the program has closed is left alone, because its number may be another
 * context's: the byte is then freed when mpc_unpin() drops the last reference to the description. */
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

/* -- fork ---------------------------------------------------------------------------------------------------------- */

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

/* Duplicate the caller's descriptor, for where no other description can be opened. */
static int mpc_duplicate(const mpc_ctx *ctx, int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR);
    return mpc_put_mark(ctx, high < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : high);
}

/* Give the context two descriptions, one of its own and one that its children share, made from the caller's
 * descriptor, and let every later fork know of them.  Both happen under the lock that fork() takes, so no child can
 * inherit a description that its fork handler does not close. */
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
