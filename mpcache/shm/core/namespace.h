/* Namespaces: their names and their epochs. */
#ifndef MPC_NAMESPACE_H
#define MPC_NAMESPACE_H

#include "context.h"
#include "status.h"

#define MPC_NO_NAME UINT32_MAX

u32 mpc_namespace_name(mpc_ctx *ctx, u16 which, char name[MPC_NAME_BYTES]);
mpc_status mpc_namespace_open(mpc_ctx *ctx, const char *name, size_t len, u16 *namespace);
u64 mpc_invalidate(mpc_ctx *ctx, u16 namespace, bool hard);
void mpc_clear(mpc_ctx *ctx, u16 namespace);

#endif
