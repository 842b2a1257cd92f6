/* What /proc says of a process. */
#ifndef MPC_PROCFS_H
#define MPC_PROCFS_H

#include "port.h"

u64 mpc_start_time(u64 pid);
u64 mpc_namespace_of(const char *path);
bool mpc_is_runnable(u64 pid);

#endif
