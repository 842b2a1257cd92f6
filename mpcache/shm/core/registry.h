/* The registry: how a process becomes the owner of a process slot, and how it gives the slot back. */
#ifndef MPC_REGISTRY_H
#define MPC_REGISTRY_H

#include "context.h"
#include "status.h"

mpc_status mpc_register(mpc_ctx *ctx);
void mpc_unregister(mpc_ctx *ctx);
void mpc_unpin(mpc_ctx *ctx);
void mpc_close_descriptors(mpc_ctx *ctx);
bool mpc_join_fork_list(mpc_ctx *ctx, int fd);
void mpc_leave_fork_list(mpc_ctx *ctx);

#endif
