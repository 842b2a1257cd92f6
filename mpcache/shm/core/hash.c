/* Keyed hashes.  A key's hash picks its shard, its two index buckets and its tag; a second, 128 bits wide, names
 * its lease.  The seed is random for each segment, so that nobody who chooses keys can aim them at one bucket.
 *
 * The construction is the folded 64 x 64 -> 128 bit multiplication (Jean-Philippe Aumasson's and Daniel
 * Bernstein's SipHash would do as well, at four times the cost for short keys): each 16 bytes are mixed with the
 * secret on one side and with the state on the other, so the product of two chosen words is not in reach. */
#include "hash.h"

__extension__ typedef unsigned __int128 u128;

static inline u64 mpc_fold(u64 a, u64 b)
{
    u128 product = (u128)a * b;
    return (u64)product ^ (u64)(product >> 64);
}

static inline u64 mpc_read_u64(const u8 *from)
{
    u64 word;
    memcpy(&word, from, 8);
    return word;
}

static inline u64 mpc_read_u32(const u8 *from)
{
    u32 half;
    memcpy(&half, from, 4);
    return half;
}

/* The last 0 to 15 bytes as two words that overlap, or as one of single bytes; the length is in the state already. */
static inline void mpc_read_tail_words(const u8 *from, size_t n, u64 out[2])
{
    if (n >= 8) {
        out[0] = mpc_read_u64(from);
        out[1] = mpc_read_u64(from + n - 8);
    } else if (n >= 4) {
        out[0] = mpc_read_u32(from);
        out[1] = mpc_read_u32(from + n - 4);
    } else {
        out[0] = n == 0 ? 0 : (u64)from[0] << 16 | (u64)from[n / 2] << 8 | from[n - 1];
        out[1] = 0;
    }
}

u64 mpc_hash(const u64 seed[2], u64 salt, const void *bytes, size_t n)
{
    const u8 *from = bytes;
    u64 state = mpc_fold(seed[0] ^ salt, seed[1] ^ n);
    size_t left = n;
    for (; left >= 16; left -= 16, from += 16)
        state = mpc_fold(mpc_read_u64(from) ^ seed[1], mpc_read_u64(from + 8) ^ state);
    u64 rest[2];
    mpc_read_tail_words(from, left, rest);
    state = mpc_fold(rest[0] ^ seed[1], rest[1] ^ state);
    return mpc_fold(state ^ seed[0], 0x9e3779b97f4a7c15ull ^ seed[1]);
}

static u64 mpc_salt_of(const mpc_key *key)
{
    return (u64)key->namespace << 8 | key->kind;
}

void mpc_key_init(const mpc_ctx *ctx, mpc_key *key, u16 namespace, u8 kind, const void *bytes, u32 len)
{
    *key = (mpc_key){.bytes = bytes, .len = len, .namespace = namespace, .kind = kind};
    key->hash = mpc_hash(ctx->seed, mpc_salt_of(key), bytes, len);
}

void mpc_key_hash128(const mpc_ctx *ctx, const mpc_key *key, u64 out[2])
{
    out[0] = key->hash;
    out[1] = mpc_hash(ctx->seed + 2, mpc_salt_of(key), key->bytes, key->len);
}
