/* The ghosts: fingerprints of keys that left before anybody read them.  One that is wanted again so soon should have
 * stayed.
 *
 *     line:  | newest | ... | oldest |      32 fingerprints of 16 bits, one cache line; 0: none
 *
 * A key has one line, and each line is a queue of its own, so the table forgets in the order in which it learned, give
 * or take what chance puts into one line.  Nothing here has to be whole: a fingerprint that stands twice, or was lost
 * when a writer died, or is another key's by chance (one in 2,000 is), costs one wrong guess.  Only who has the shard
 * locked looks at it, so its words are ordinary ones. */
#include "ghost.h"

#define PER_LINE (MPC_LINE / sizeof(u16))

u16 *mpc_ghosts_of(const mpc_ctx *ctx, struct mpc_shard *shard, u64 hash)
{
    u64 lines = ctx->geometry.ghost_entries / PER_LINE;
    return (u16 *)((u8 *)shard + ctx->geometry.ghost_at) + ((u64)(u32)hash * lines >> 32) * PER_LINE;
}

/* Bits from which neither the line nor the shard follows. */
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

/* Whether the key is among so many of the youngest ghosts; from now on it is not. */
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
