/* Attaching a segment, and the checks with which every operation begins. */
#ifndef MPC_ATTACH_H
#define MPC_ATTACH_H

#include "registry.h"

mpc_status mpc_open(mpc_ctx *ctx, int fd, const char *path);
void mpc_close(mpc_ctx *ctx);
mpc_status mpc_revalidate(mpc_ctx *ctx);
mpc_status mpc_revalidate_after_hits(mpc_ctx *ctx);

/* Begin an operation: register a process that is new, or new since a fork.  A process that registers reads `retired`
 * once more: either it sees the removal, or the remover sees its liveness byte and waits for it. */
static inline mpc_status mpc_enter(mpc_ctx *ctx)
{
    if (mpc_load(&ctx->header->retired))
        return MPC_RETIRED;
    u64 owner = mpc_load(&ctx->self->owner);
    struct mpc_slot *slots = (struct mpc_slot *)(ctx->base + ctx->geometry.slots_at);
    if (owner != 0 && mpc_load(&slots[owner & 0xffff].id) == owner)
        return MPC_OK;
    mpc_status status = mpc_register(ctx);
    return status == MPC_OK && mpc_load_acquire(&ctx->header->retired) ? MPC_RETIRED : status;
}

#endif
