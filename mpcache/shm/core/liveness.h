/* Liveness: which processes are registered in a segment, and whether one of them is dead. */
#ifndef MPC_LIVENESS_H
#define MPC_LIVENESS_H

#include "context.h"

bool mpc_is_our_inode(const mpc_ctx *ctx, int fd);
bool mpc_is_our_description(const mpc_ctx *ctx, int fd);
bool mpc_set_liveness(const mpc_ctx *ctx, short type, u32 slot);
bool mpc_anyone_alive(int fd, u32 slots, int *system_error);
bool mpc_is_dead(mpc_ctx *ctx, u64 owner);
bool mpc_wants_to_run(mpc_ctx *ctx, u64 owner);
u64 mpc_pid_of(mpc_ctx *ctx, u64 owner);

#endif
