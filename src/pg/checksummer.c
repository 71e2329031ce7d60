/*
 * checksummer.c - a file's checksum as the backup manifest has it: SHA-2, or CRC-32C whose four
 * bytes are written little-endian.
 */
#include "walagent/pg/manifest.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/codec/hash.h"

#include <stdlib.h>

struct wa_checksummer {
    wa_manifest_checksum algorithm;
    uint32_t crc;
    wa_digest *digest; /* SHA-2 only */
};

static bool
digest_kind(wa_manifest_checksum algorithm, wa_digest_kind *ret)
{
    switch (algorithm) {
    case WA_MANIFEST_SHA224:
        *ret = WA_SHA224;
        return true;
    case WA_MANIFEST_SHA256:
        *ret = WA_SHA256;
        return true;
    case WA_MANIFEST_SHA384:
        *ret = WA_SHA384;
        return true;
    case WA_MANIFEST_SHA512:
        *ret = WA_SHA512;
        return true;
    case WA_MANIFEST_NONE:
    case WA_MANIFEST_CRC32C:
        return false;
    }
    WA_ASSERT(false);
    return false;
}

size_t
wa_manifest_checksum_size(wa_manifest_checksum algorithm)
{
    wa_digest_kind kind;
    if (digest_kind(algorithm, &kind))
        return wa_digest_size(kind);
    return algorithm == WA_MANIFEST_CRC32C ? 4 : 0;
}

wa_checksummer *
wa_checksummer_new(wa_manifest_checksum algorithm)
{
    wa_checksummer *c = wa_calloc(1, sizeof *c);
    c->algorithm = algorithm;
    wa_checksummer_reset(c);
    return c;
}

void
wa_checksummer_reset(wa_checksummer *c)
{
    wa_digest_kind kind;
    c->crc = 0;
    wa_digest_free(c->digest);
    c->digest = digest_kind(c->algorithm, &kind) ? wa_digest_new(kind) : NULL;
}

void
wa_checksummer_update(wa_checksummer *c, const void *data, size_t len)
{
    if (c->digest != NULL)
        wa_digest_update(c->digest, data, len);
    else if (c->algorithm == WA_MANIFEST_CRC32C)
        c->crc = wa_crc32c(c->crc, data, len);
}

void
wa_checksummer_add_crc32c(wa_checksummer *c, uint32_t crc, uint64_t len)
{
    WA_ASSERT(c->algorithm == WA_MANIFEST_CRC32C);
    c->crc = wa_crc32c_combine(c->crc, crc, len);
}

size_t
wa_checksummer_final(wa_checksummer *c, uint8_t out[static 64])
{
    if (c->digest != NULL)
        wa_digest_final(c->digest, out);
    else if (c->algorithm == WA_MANIFEST_CRC32C)
        wa_put_u32le(out, c->crc);
    return wa_manifest_checksum_size(c->algorithm);
}

void
wa_checksummer_free(wa_checksummer *c)
{
    if (c == NULL)
        return;
    wa_digest_free(c->digest);
    free(c);
}
