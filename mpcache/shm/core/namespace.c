/* Namespaces: each has a name, an epoch, and the epochs before which its records are hidden, stale or gone.
 *
 *     | hard_at | soft_at | clear_at | used | name |        header: the clock, which counts epochs
 *
 * Invalidation counts and does not read the time of day.  A record carries the epoch in which its creation began, and
 * is hidden if that is less than hard_at.  So a value that was created from data read before an invalidation cannot
 * count as newer than it, whatever the clocks said.  One counter serves all namespaces and tags: a record has one
 * epoch. */
#include "namespace.h"

#include "attach.h"
#include "wordlock.h"

/* Copy the name of namespace `which`, and return its length; MPC_NO_NAME: there is no such namespace. */
u32 mpc_namespace_name(mpc_ctx *ctx, u16 which, char name[MPC_NAME_BYTES])
{
    struct mpc_namespace *namespace = mpc_namespace_at(ctx, which);
    u32 len;
    if (mpc_load_acquire(&namespace->used) == 0)
        return MPC_NO_NAME;
    mpc_copy_out(&len, &namespace->name_bytes, sizeof len);
    if (len > MPC_NAME_BYTES)
        return MPC_NO_NAME;
    mpc_copy_out(name, namespace->name, len);
    return len;
}

static bool mpc_namespace_is_called(mpc_ctx *ctx, u16 which, const char *name, size_t len)
{
    char there[MPC_NAME_BYTES];
    return mpc_namespace_name(ctx, which, there) == len && memcmp(there, name, len) == 0;
}

/* Find a namespace by its name.  Names are never removed, so those in use before the end of the table stay. */
static bool mpc_find_namespace(mpc_ctx *ctx, const char *name, size_t len, u16 *found)
{
    for (u16 i = 0; i < MPC_NAMESPACES; i++) {
        if (mpc_load_acquire(&mpc_namespace_at(ctx, i)->used) == 0)
            return false;
        if (mpc_namespace_is_called(ctx, i, name, len)) {
            *found = i;
            return true;
        }
    }
    return false;
}

static mpc_status mpc_make_namespace_locked(mpc_ctx *ctx, const char *name, size_t len, u16 *made)
{
    if (mpc_find_namespace(ctx, name, len, made))
        return MPC_OK;
    for (u16 i = 0; i < MPC_NAMESPACES; i++) {
        struct mpc_namespace *namespace = mpc_namespace_at(ctx, i);
        if (mpc_load(&namespace->used) != 0)
            continue;
        mpc_copy_in(namespace->name, name, len);
        namespace->name_bytes = (u32)len;
        MPC_POINT();
        mpc_store_release(&namespace->used, 1);
        *made = i;
        return MPC_OK;
    }
    return MPC_NO_NAMESPACE;
}

/* Find the namespace of that name, or create it. */
mpc_status mpc_namespace_open(mpc_ctx *ctx, const char *name, size_t len, u16 *found)
{
    if (len > MPC_NAME_BYTES)
        return MPC_NAME_TOO_LONG;
    mpc_status status = mpc_enter(ctx);
    if (mpc_find_namespace(ctx, name, len, found))
        return MPC_OK;
    if (status != MPC_OK)
        return status;
    if (!mpc_lock(ctx, &ctx->header->namespaces_lock, MPC_SHARD_WAIT_NS))
        return MPC_BUSY;
    status = mpc_make_namespace_locked(ctx, name, len, found);
    mpc_unlock(ctx, &ctx->header->namespaces_lock);
    return status;
}

static void mpc_raise_to(a64 *mark, u64 epoch)
{
    u64 seen = mpc_load(mark);
    while (seen < epoch && !mpc_cas64(mark, &seen, epoch))
        ;
}

/* Begin a new epoch, and return it.  The mark is raised after the count: records that are written in between have
 * the new epoch and are spared, which is right, because this call has not returned. */
static u64 mpc_next_epoch(mpc_ctx *ctx)
{
    u64 epoch = atomic_fetch_add(&ctx->header->clock, 1) + 1;
    MPC_POINT();
    return epoch;
}

u64 mpc_invalidate(mpc_ctx *ctx, u16 which, bool hard)
{
    struct mpc_namespace *namespace = mpc_namespace_at(ctx, which);
    u64 epoch = mpc_next_epoch(ctx);
    mpc_raise_to(hard ? &namespace->hard_at : &namespace->soft_at, epoch);
    return epoch;
}

void mpc_clear(mpc_ctx *ctx, u16 which)
{
    mpc_raise_to(&mpc_namespace_at(ctx, which)->clear_at, mpc_next_epoch(ctx));
}
