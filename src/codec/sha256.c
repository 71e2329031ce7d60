/*
 * codec/sha256.c - SHA-256 of a few bytes by libmd.
 *
 * Names of branches need it in every hook, over some twenty bytes. Loading libcrypto and starting
 * it for that takes longer than half a segment takes to compress. What is long, or secret, is
 * libcrypto's.
 */
#include "walagent/base/str.h"
#include "walagent/codec/hash.h"

#include <sys/types.h>

#include <sha256.h>

void
wa_sha256_short(const void *data, size_t len, uint8_t out[static WA_SHA256_SIZE])
{
    SHA256_CTX context;
    SHA256Init(&context);
    SHA256Update(&context, data, len);
    SHA256Final(out, &context);
}

char *
wa_sha256_short_hex(const void *data, size_t len, char out[static WA_SHA256_HEX])
{
    uint8_t digest[WA_SHA256_SIZE];
    wa_sha256_short(data, len, digest);
    return wa_hex(digest, sizeof digest, out);
}
