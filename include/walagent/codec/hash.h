/*
 * walagent/codec/hash.h - content identity and the digests that protocols ask for.
 *
 * XXH3-128 (20 GB/s) identifies content in our own formats; canonical (big-endian) bytes, written
 * as 32 lower-case hex digits. SHA-2 and MD5 come from OpenSSL's EVP, fetched once; SHA-256 of a
 * few bytes is ours, too.
 */
#ifndef WALAGENT_CODEC_HASH_H
#define WALAGENT_CODEC_HASH_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <stddef.h>
#include <stdint.h>

#define WA_XXH_HEX 33
typedef struct wa_xxh wa_xxh; /* streaming XXH3-128 */
wa_xxh *wa_xxh_new(void);
void wa_xxh_reset(wa_xxh *h);
void wa_xxh_update(wa_xxh *h, const void *data, size_t len);
char *wa_xxh_hex(const wa_xxh *h, char out[static WA_XXH_HEX]); /* of what was fed so far */
wa_xxh *wa_xxh_copy(const wa_xxh *h);                           /* goes its own way from here */
void wa_xxh_free(wa_xxh *h);
WA_DEFINE_CLEANUP(wa_xxh, wa_xxh_free)
char *wa_xxh_of(const void *data, size_t len, char out[static WA_XXH_HEX]);
/* XXH3-64 with a seed, of what is remembered only while a program runs. */
uint64_t wa_xxh_quick(uint64_t seed, const void *data, size_t len);

/* The low 32 bits of XXH64: the checksum that ends a zstd frame, of its content. Streaming. */
typedef struct wa_frame_sum wa_frame_sum;
wa_frame_sum *wa_frame_sum_new(void);
void wa_frame_sum_reset(wa_frame_sum *s);
void wa_frame_sum_update(wa_frame_sum *s, const void *data, size_t len);
uint32_t wa_frame_sum_get(const wa_frame_sum *s); /* of what was fed so far */
void wa_frame_sum_free(wa_frame_sum *s);
WA_DEFINE_CLEANUP(wa_frame_sum, wa_frame_sum_free)

typedef enum wa_digest_kind {
    WA_MD5,
    WA_SHA1,
    WA_SHA224,
    WA_SHA256,
    WA_SHA384,
    WA_SHA512
} wa_digest_kind;
#define WA_DIGEST_MAX 64
#define WA_SHA256_HEX 65
/* Loads libcrypto, without which all below abort. FAILED: it isn't installed. To be called once
 * where an error can still be told; costs nothing after that. */
wa_status wa_crypto_load(wa_error *err) WA_MUST_CHECK;
size_t wa_digest_size(wa_digest_kind kind);
void wa_digest_of(wa_digest_kind kind, const void *data, size_t len,
                  uint8_t out[static WA_DIGEST_MAX]);
typedef struct wa_digest wa_digest;
wa_digest *wa_digest_new(wa_digest_kind kind);
void wa_digest_update(wa_digest *d, const void *data, size_t len);
void wa_digest_final(wa_digest *d, uint8_t out[static WA_DIGEST_MAX]);
void wa_digest_free(wa_digest *d);
WA_DEFINE_CLEANUP(wa_digest, wa_digest_free)
void wa_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                    uint8_t out[static 32]);
char *wa_sha256_hex(const void *data, size_t len, char out[static WA_SHA256_HEX]);
/* The same by libmd, for what is short: a hook has no time to load libcrypto. */
#define WA_SHA256_SIZE 32
void wa_sha256_short(const void *data, size_t len, uint8_t out[static WA_SHA256_SIZE]);
char *wa_sha256_short_hex(const void *data, size_t len, char out[static WA_SHA256_HEX]);
/* Base 64 with padding; a new string. */
char *wa_base64(const void *data, size_t len);

#endif
