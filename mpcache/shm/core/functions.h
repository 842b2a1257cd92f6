/* The table of decorated functions, and what is counted of each over all processes. */
#ifndef MPC_FUNCTIONS_H
#define MPC_FUNCTIONS_H

#include "context.h"

u32 mpc_function_open(mpc_ctx *ctx, u16 namespace, const char *name, size_t len);
void mpc_function_count(mpc_ctx *ctx, u32 row, enum mpc_function_count what, u64 n);
u32 mpc_function_name(mpc_ctx *ctx, u32 row, u16 *namespace, char name[MPC_FUNCTION_NAME_BYTES]);

#endif
