/* Removal of a segment, and the shard lock that respects it. */
#ifndef MPC_RETIRE_H
#define MPC_RETIRE_H

#include "context.h"
#include "status.h"

#define MPC_GRACE_NS (250 * MPC_NS_PER_MS) /* a remover lets operations end that began before; longer than any waits */

void mpc_retire(mpc_ctx *ctx);
mpc_status mpc_lock_shard(mpc_ctx *ctx, struct mpc_shard *shard, u64 wait_ns);
mpc_status mpc_remove(mpc_ctx *ctx, u64 grace_ns, u32 *kept);

#endif
