/* The table of decorated functions, and what is counted of each over all processes.
 *
 *     row:   | hash:128 | namespace | name | used | counters |      rows in use are the first ones; none is ever freed
 *
 * A row is claimed as a namespace is: under a word lock, `used` last.  Functions beyond the last row share one more
 * row.  A process adds its own counts from time to time (_function_counts.c), by atomic additions: counters that it
 * read and wrote back would lose those of others. */
#include "functions.h"

#include "attach.h"
#include "hash.h"
#include "wordlock.h"

static bool mpc_is_function(mpc_ctx *ctx, u32 row, u16 namespace, const u64 hash[2])
{
    const struct mpc_function *function = mpc_function_at(ctx, row);
    return function->namespace == namespace && function->hash[0] == hash[0] && function->hash[1] == hash[1];
}

/* Return the function's row, or the first one that is not in use; MPC_FUNCTIONS: there is none. */
static u32 mpc_find_function(mpc_ctx *ctx, u16 namespace, const u64 hash[2], bool *found)
{
    u32 row = 0;
    for (; row < MPC_FUNCTIONS && mpc_load_acquire(&mpc_function_at(ctx, row)->used) != 0; row++)
        if (mpc_is_function(ctx, row, namespace, hash)) {
            *found = true;
            return row;
        }
    *found = false;
    return row;
}

static void mpc_make_function_locked(mpc_ctx *ctx, u32 row, u16 namespace, const u64 hash[2], const char *name,
                                     size_t len)
{
    struct mpc_function *function = mpc_function_at(ctx, row);
    function->hash[0] = hash[0];
    function->hash[1] = hash[1];
    function->namespace = namespace;
    function->name_bytes = (u16)(len < MPC_FUNCTION_NAME_BYTES ? len : MPC_FUNCTION_NAME_BYTES);
    mpc_copy_in(function->name, name, function->name_bytes);
    MPC_POINT();
    mpc_store_release(&function->used, 1);
}

/* Return the row of a function; make it if it has none.  MPC_FUNCTIONS: the table is full, or could not be locked. */
u32 mpc_function_open(mpc_ctx *ctx, u16 namespace, const char *name, size_t len)
{
    u64 hash[2] = {mpc_hash(ctx->seed, namespace, name, len), mpc_hash(ctx->seed + 2, namespace, name, len)};
    bool found;
    if (mpc_retired(ctx))
        return MPC_FUNCTIONS;
    u32 row = mpc_find_function(ctx, namespace, hash, &found);
    if (found || row == MPC_FUNCTIONS || mpc_enter(ctx) != MPC_OK)
        return found ? row : MPC_FUNCTIONS;
    if (!mpc_lock(ctx, &ctx->header->functions_lock, MPC_SHARD_WAIT_NS))
        return MPC_FUNCTIONS;
    row = mpc_find_function(ctx, namespace, hash, &found);
    if (!found && row < MPC_FUNCTIONS)
        mpc_make_function_locked(ctx, row, namespace, hash, name, len);
    mpc_unlock(ctx, &ctx->header->functions_lock);
    return row;
}

void mpc_function_count(mpc_ctx *ctx, u32 row, enum mpc_function_count what, u64 n)
{
    if (!mpc_retired(ctx)) /* else the table has no memory any more */
        mpc_add_to(&mpc_function_at(ctx, row <= MPC_FUNCTIONS ? row : MPC_FUNCTIONS)->count[what], n);
}

/* Copy the name of a row in use, and return its length; UINT32_MAX: the row is not in use. */
u32 mpc_function_name(mpc_ctx *ctx, u32 row, u16 *namespace, char name[MPC_FUNCTION_NAME_BYTES])
{
    struct mpc_function *function = mpc_function_at(ctx, row);
    u16 len;
    if (mpc_load_acquire(&function->used) == 0)
        return UINT32_MAX;
    mpc_copy_out(&len, &function->name_bytes, sizeof len);
    mpc_copy_out(namespace, &function->namespace, sizeof *namespace);
    len = len < MPC_FUNCTION_NAME_BYTES ? len : MPC_FUNCTION_NAME_BYTES;
    mpc_copy_out(name, function->name, len);
    return len;
}
