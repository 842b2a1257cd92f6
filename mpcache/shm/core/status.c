/* The texts of the status list. */
#include "status.h"

#include <stddef.h>

const char *mpc_status_text(mpc_status status)
{
    static const char *const texts[] = {
#define MPC_AS_TEXT(name, exception, text) [MPC_##name] = text,
        MPC_STATUSES(MPC_AS_TEXT)
#undef MPC_AS_TEXT
    };
    size_t known = sizeof texts / sizeof *texts;
    return (size_t)status < known && texts[status] ? texts[status] : "unknown status";
}
