/* Segments that are the same in each run: formatted by the engine's own code, with random numbers from a seed.
 *
 *     birth FILE SIZE SHARDS SLOTS LIMIT SEED
 *
 * Linked with core/format.c and core/hash.c only; what those need of the machine is here. */
#include "engine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static u64 state;

bool mpc_random(void *bytes, size_t n)
{
    for (u8 *to = bytes; n--; to++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        *to = (u8)(state >> 56);
    }
    return true;
}

i64 mpc_wall_ns(void)
{
    return 1;
}

int main(int argc, char **argv)
{
    struct mpc_geometry geometry;
    if (argc != 7)
        return 2;
    u64 size = strtoull(argv[2], NULL, 0), limit = strtoull(argv[5], NULL, 0);
    state = strtoull(argv[6], NULL, 0);
    if (mpc_plan(&geometry, size, (u32)atoi(argv[3]), (u32)atoi(argv[4]), limit) != MPC_OK)
        return 3;
    int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        return 4;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return base != MAP_FAILED && mpc_format(base, &geometry) == MPC_OK ? 0 : 5;
}
