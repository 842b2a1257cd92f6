/* Listing the keys of a namespace, alone or with what is known of their values.  The scan runs without the GIL. */
#include "binding.h"

#define KEYS_AT_ONCE 8192              /* keys that are listed before the GIL is taken, */
#define KEY_BYTES_AT_ONCE (512u << 10) /* or bytes of them */

/* Check that the segment has not been removed.  A process that only lists keys, or asks which process holds a key,
 * has no other occasion to notice.  False: an exception is set. */
bool mpc_may_list(Namespace *self)
{
    mpc_ctx *ctx = &self->engine->ctx;
    mpc_status status = mpc_may_read(ctx);
    if (status == MPC_OK && mpc_revalidate(ctx) == MPC_RETIRED)
        status = MPC_RETIRED;
    if (status != MPC_OK)
        mpc_raise_status(status);
    return status == MPC_OK;
}

/* Keys that a scan found, copied out while it goes on without the GIL: finding few keys among many slots takes long,
 * and taking the GIL for each of many may take longer still. */
typedef struct {
    u32 n;
    u64 used; /* of `bytes` */
    struct found_key {
        u64 at;
        i64 created, expires;
        u32 vlen;
        u16 klen;
        u8 type, flags, reads, ring;
    } key[KEYS_AT_ONCE];
    u8 bytes[KEY_BYTES_AT_ONCE + MPC_MAX_KEY]; /* the longest key fits behind all others */
} found_keys;

/* MPC_OK: the scan goes on; MPC_ABSENT: it is at its end. */
static mpc_status mpc_find_keys(mpc_ctx *ctx, u16 namespace, u64 hard_at, mpc_cursor *cursor, found_keys *found)
{
    mpc_hit hit;
    found->n = 0;
    found->used = 0;
    while (found->n < KEYS_AT_ONCE && found->used < KEY_BYTES_AT_ONCE) {
        mpc_status status = mpc_next_key(ctx, cursor, namespace, &hit, found->bytes + found->used);
        if (status != MPC_OK)
            return status;
        if (hit.record.epoch < hard_at || hit.record.kind >> 4 != KIND_RECORD)
            continue;
        found->key[found->n++] = (struct found_key){
            .at = found->used,
            .created = hit.record.created,
            .expires = hit.record.expires,
            .vlen = hit.record.vlen,
            .klen = hit.record.klen,
            .type = hit.record.kind & 15,
            .flags = hit.record.flags,
            .reads = (u8)mpc_word_freq(hit.word),
            .ring = (u8)mpc_word_ring(hit.word),
        };
        found->used += hit.record.klen;
    }
    return MPC_OK;
}

static PyObject *mpc_key_object(const found_keys *found, u32 i)
{
    const char *bytes = (const char *)found->bytes + found->key[i].at;
    if (found->key[i].type == TYPE_STR)
        return PyUnicode_DecodeUTF8(bytes, found->key[i].klen, "replace");
    return PyBytes_FromStringAndSize(bytes, found->key[i].klen);
}

static PyObject *mpc_item_object(const struct found_key *of, PyObject *key)
{
    return Py_BuildValue("(OkdidBB)", key, (unsigned long)of->vlen, mpc_seconds_of_ns(of->created), of->flags,
                         mpc_seconds_of_ns(of->expires), of->reads, of->ring);
}

/* Put what was found into a dict, by the key: None, or with `items` the item. */
static int mpc_put_keys(PyObject *dict, const found_keys *found, bool items)
{
    int failed = 0;
    for (u32 i = 0; !failed && i < found->n; i++) {
        PyObject *key = mpc_key_object(found, i);
        PyObject *value = !key ? NULL : items ? mpc_item_object(&found->key[i], key) : Py_NewRef(Py_None);
        failed = !value || PyDict_SetItem(dict, key, value) < 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return failed ? -1 : 0;
}

/* Collect the keys in a dict, because a key that is deleted and set again meanwhile may be seen in both its places. */
static PyObject *mpc_collect_keys(Namespace *self, found_keys *found, bool items)
{
    mpc_ctx *ctx = &self->engine->ctx;
    mpc_cursor cursor = {0};
    PyObject *dict = PyDict_New();
    u64 hard_at = mpc_load_acquire(&mpc_namespace_at(ctx, self->number)->hard_at);
    for (mpc_status status = MPC_OK; dict && status == MPC_OK;) {
        Py_BEGIN_ALLOW_THREADS
        status = mpc_find_keys(ctx, self->number, hard_at, &cursor, found);
        Py_END_ALLOW_THREADS
        if (mpc_put_keys(dict, found, items) == 0 && status != MPC_OK && status != MPC_ABSENT)
            mpc_raise_status(status);
        if (PyErr_Occurred())
            Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *mpc_list_keys(Namespace *self, bool items)
{
    if (!mpc_may_list(self))
        return NULL;
    found_keys *found = PyMem_Malloc(sizeof *found);
    PyObject *dict = found ? mpc_collect_keys(self, found, items) : PyErr_NoMemory();
    PyObject *list = !dict ? NULL : items ? PyDict_Values(dict) : PyDict_Keys(dict);
    Py_XDECREF(dict);
    PyMem_Free(found);
    return list;
}

PyObject *mpc_py_namespace_keys(Namespace *self, PyObject *unused)
{
    (void)unused;
    return mpc_list_keys(self, false);
}

PyObject *mpc_py_namespace_items(Namespace *self, PyObject *unused)
{
    (void)unused;
    return mpc_list_keys(self, true);
}
