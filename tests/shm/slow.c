/* A process with two threads, and another process: a copy that takes seconds in one shard, sets without an end in the
 * other, and a set that waits for the copy.
 *
 *     slow          exit status 0: the set that waited was stored
 *
 * Both processes are contexts of this one; the copy sleeps at each of its points, as if the thread had to wait for a core
 * or for memory each time. */
#include "engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LARGE (16u << 20) /* at 256 KiB a step: 64 naps */
#define SIZE (512ull << 20)

static mpc_ctx busy, waiting;
static u32 names[2]; /* a key of each shard */
static atomic_bool enough;
static _Thread_local bool is_copier;

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

void mpc_point(void)
{
    if (is_copier)
        nap(30);
}

static mpc_status put(mpc_ctx *ctx, u32 which, u64 len)
{
    static const u8 bytes[LARGE];
    mpc_key key;
    mpc_key_init(ctx, &key, 0, 0, &names[which], sizeof names[which]);
    mpc_value value = {.bytes = bytes, .len = len, .created = 1};
    return mpc_set(ctx, &key, &value, MPC_SHARD_WAIT_NS);
}

static void *copy(void *unused)
{
    is_copier = true;
    put(&busy, 0, LARGE);
    return unused;
}

static void *set_on_and_on(void *unused)
{
    while (!atomic_load(&enough)) {
        put(&busy, 1, 8);
        nap(1);
    }
    return unused;
}

static void find_names(void)
{
    for (bool found[2] = {false}; !found[0] || !found[1]; names[0] += !found[0], names[1] += !found[1])
        for (u32 which = 0; which < 2; which++) {
            mpc_key key;
            mpc_key_init(&busy, &key, 0, 0, &names[which], sizeof names[which]);
            found[which] = mpc_shard_of(&busy, &key) == mpc_shard_at(&busy, which);
        }
}

static void begin(mpc_ctx *ctx, int fd)
{
    if (mpc_open(ctx, fd, NULL) != MPC_OK || mpc_register(ctx) != MPC_OK)
        abort();
}

int main(void)
{
    pthread_t copier, setter;
    struct mpc_geometry geometry;
    int fd = memfd_create("slow", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, SIZE) != 0)
        return perror("slow"), 2;
    u8 *segment = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED || mpc_plan(&geometry, SIZE, 2, 8, MPC_POSITION_LIMIT) != MPC_OK ||
        mpc_format(segment, &geometry) != MPC_OK)
        return perror("slow"), 2;
    begin(&busy, fd);
    begin(&waiting, fd);
    find_names();
    pthread_create(&copier, NULL, copy, NULL);
    pthread_create(&setter, NULL, set_on_and_on, NULL);
    while (mpc_load(&mpc_shard_at(&busy, 0)->lock) == 0)
        nap(1);
    u64 start = mpc_mono_ns();
    mpc_status status = put(&waiting, 0, 8);
    printf("status %d after %llu ms\n", (int)status, (unsigned long long)((mpc_mono_ns() - start) / MPC_NS_PER_MS));
    atomic_store(&enough, true);
    pthread_join(copier, NULL);
    pthread_join(setter, NULL);
    return status != MPC_OK;
}
