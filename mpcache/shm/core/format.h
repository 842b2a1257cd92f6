/* The geometry of a segment, and its header: how it is planned, written and verified. */
#ifndef MPC_FORMAT_H
#define MPC_FORMAT_H

#include "layout.h"
#include "status.h"

mpc_status mpc_plan(struct mpc_geometry *geometry, u64 size, u32 shards, u32 slots, u64 position_limit);
u64 mpc_smallest(u32 shards);
mpc_status mpc_format(u8 *base, const struct mpc_geometry *geometry);
mpc_status mpc_verify(const u8 *base, u64 mapped, struct mpc_geometry *geometry);

#endif
