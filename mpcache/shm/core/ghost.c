/* The ghosts: fingerprints of keys that were evicted unread.  A key that is asked for again while its ghost is there
 * should have stayed.
 *
 *     line:  | newest | ... | oldest |      32 fingerprints of 16 bits, one cache line; 0: none
 *
 * A key has one line, and each line is a queue, so the table forgets in the order in which it learned, up to how
 * chance distributes keys over lines.  Nothing here has to be consistent: a fingerprint that is there twice, was
 * lost when a writer died, or is another key's by chance (one in 2,000 is) costs one wrong guess.  Only the owner of
 * the shard's lock reads or writes these words, so they are not atomic. */
#include "ghost.h"

#define PER_LINE (MPC_LINE / sizeof(u16))

u16 *mpc_ghosts_of(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash)
{
    u64 lines = ctx->geometry.ghost_entries / PER_LINE;
    return (u16 *)((u8 *)shard + ctx->geometry.ghost_at) + ((u64)(u32)hash * lines >> 32) * PER_LINE;
}

/* Bits that determine neither the line nor the shard. */
static u16 mpc_fingerprint_of(u64 hash)
{
    u16 bits = (u16)(hash >> 40);
    return bits ? bits : 1;
}

void mpc_ghost_add_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash)
{
    u16 *line = mpc_ghosts_of(ctx, shard, hash);
    memmove(line + 1, line, (PER_LINE - 1) * sizeof *line);
    *line = mpc_fingerprint_of(hash);
}

/* Return whether the key is among the `youngest` newest ghosts, and remove it from them. */
bool mpc_ghost_take_locked(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash, u64 youngest)
{
    u16 *line = mpc_ghosts_of(ctx, shard, hash), wanted = mpc_fingerprint_of(hash);
    u64 depth = 1 + youngest * PER_LINE / ctx->geometry.ghost_entries;
    for (u64 i = 0; i < depth && i < PER_LINE; i++)
        if (line[i] == wanted) {
            line[i] = 0;
            return true;
        }
    return false;
}
