/*
 * codec/hash.c - XXH3-128, SHA-2, MD5, HMAC, base 64.
 */
#include "walagent/codec/hash.h"

#include "walagent/base/str.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct wa_xxh {
    XXH3_state_t *state;
};

wa_xxh *
wa_xxh_new(void)
{
    wa_xxh *h = wa_malloc(sizeof *h);
    h->state = XXH3_createState();
    WA_ASSERT(h->state);
    wa_xxh_reset(h);
    return h;
}

void
wa_xxh_reset(wa_xxh *h)
{
    XXH3_128bits_reset(h->state);
}

void
wa_xxh_update(wa_xxh *h, const void *data, size_t len)
{
    if (len > 0)
        XXH3_128bits_update(h->state, data, len);
}

static char *
xxh_text(XXH128_hash_t hash, char out[static WA_XXH_HEX])
{
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, hash);
    return wa_hex(canonical.digest, sizeof canonical.digest, out);
}

char *
wa_xxh_hex(const wa_xxh *h, char out[static WA_XXH_HEX])
{
    return xxh_text(XXH3_128bits_digest(h->state), out);
}

wa_xxh *
wa_xxh_copy(const wa_xxh *h)
{
    wa_xxh *copy = wa_xxh_new();

    XXH3_copyState(copy->state, h->state);
    return copy;
}

void
wa_xxh_free(wa_xxh *h)
{
    if (!h)
        return;
    XXH3_freeState(h->state);
    free(h);
}

char *
wa_xxh_of(const void *data, size_t len, char out[static WA_XXH_HEX])
{
    return xxh_text(XXH3_128bits(len ? data : "", len), out);
}

struct wa_frame_sum {
    XXH64_state_t *state;
};

wa_frame_sum *
wa_frame_sum_new(void)
{
    wa_frame_sum *s = wa_malloc(sizeof *s);
    s->state = XXH64_createState();
    WA_ASSERT(s->state);
    wa_frame_sum_reset(s);
    return s;
}

void
wa_frame_sum_reset(wa_frame_sum *s)
{
    XXH64_reset(s->state, 0);
}

void
wa_frame_sum_update(wa_frame_sum *s, const void *data, size_t len)
{
    if (len > 0)
        XXH64_update(s->state, data, len);
}

uint32_t
wa_frame_sum_get(const wa_frame_sum *s)
{
    return (uint32_t)XXH64_digest(s->state);
}

void
wa_frame_sum_free(wa_frame_sum *s)
{
    if (!s)
        return;
    XXH64_freeState(s->state);
    free(s);
}

uint64_t
wa_xxh_quick(uint64_t seed, const void *data, size_t len)
{
    return XXH3_64bits_withSeed(len ? data : "", len, seed);
}

/* Fetching an algorithm by name is the slow part of a small digest, so it is done once and kept. */
static const char *const digest_names[] = {"MD5", "SHA1", "SHA224", "SHA256", "SHA384", "SHA512"};
static EVP_MD *digests[WA_ARRAY_SIZE(digest_names)];
static pthread_once_t digests_once = PTHREAD_ONCE_INIT;

static void
fetch_digests(void)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(digests); i++)
        digests[i] = EVP_MD_fetch(NULL, digest_names[i], NULL);
}

static const EVP_MD *
digest_md(wa_digest_kind kind)
{
    pthread_once(&digests_once, fetch_digests);
    WA_ASSERT((size_t)kind < WA_ARRAY_SIZE(digests) && digests[kind]);
    return digests[kind];
}

size_t
wa_digest_size(wa_digest_kind kind)
{
    static const size_t sizes[] = {16, 20, 28, 32, 48, 64};

    WA_ASSERT((size_t)kind < WA_ARRAY_SIZE(sizes));
    return sizes[kind];
}

void
wa_digest_of(wa_digest_kind kind, const void *data, size_t len, uint8_t out[static WA_DIGEST_MAX])
{
    WA_ASSERT(EVP_Digest(data, len, out, NULL, digest_md(kind), NULL) == 1);
}

struct wa_digest {
    EVP_MD_CTX *ctx;
};

wa_digest *
wa_digest_new(wa_digest_kind kind)
{
    wa_digest *d = wa_malloc(sizeof *d);
    d->ctx = EVP_MD_CTX_new();
    WA_ASSERT(d->ctx && EVP_DigestInit_ex2(d->ctx, digest_md(kind), NULL) == 1);
    return d;
}

void
wa_digest_update(wa_digest *d, const void *data, size_t len)
{
    if (len > 0)
        WA_ASSERT(EVP_DigestUpdate(d->ctx, data, len) == 1);
}

void
wa_digest_final(wa_digest *d, uint8_t out[static WA_DIGEST_MAX])
{
    WA_ASSERT(EVP_DigestFinal_ex(d->ctx, out, NULL) == 1);
}

void
wa_digest_free(wa_digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}

void
wa_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
               uint8_t out[static 32])
{
    unsigned out_len = 32;

    WA_ASSERT(key_len <= INT32_MAX);
    WA_ASSERT(HMAC(digest_md(WA_SHA256), key_len ? key : "", (int)key_len,
                   len ? data : (const void *)"", len, out, &out_len));
    WA_ASSERT(out_len == 32);
}

char *
wa_sha256_hex(const void *data, size_t len, char out[static WA_SHA256_HEX])
{
    uint8_t digest[WA_DIGEST_MAX];

    wa_digest_of(WA_SHA256, data, len, digest);
    return wa_hex(digest, 32, out);
}

char *
wa_base64(const void *data, size_t len)
{
    WA_ASSERT(len <= INT32_MAX / 2);
    char *out = wa_malloc((len + 2) / 3 * 4 + 1);
    out[0] = '\0';
    if (len > 0)
        EVP_EncodeBlock((unsigned char *)out, data, (int)len);
    return out;
}
