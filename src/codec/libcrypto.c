/*
 * libcrypto.c - what we call of libcrypto, which is loaded when it is first needed
 * (base/library.h).
 */
#include "walagent/codec/hash.h"

#include "walagent/base/library.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define FUNCTIONS(F)                                                                               \
    F(int, EVP_Digest,                                                                             \
      (const void *data, size_t len, unsigned char *out, unsigned int *size, const EVP_MD *md,     \
       ENGINE *engine),                                                                            \
      (data, len, out, size, md, engine))                                                          \
    F(int, EVP_DigestFinal_ex, (EVP_MD_CTX * ctx, unsigned char *out, unsigned int *size),         \
      (ctx, out, size))                                                                            \
    F(int, EVP_DigestInit_ex2, (EVP_MD_CTX * ctx, const EVP_MD *md, const OSSL_PARAM params[]),    \
      (ctx, md, params))                                                                           \
    F(int, EVP_DigestUpdate, (EVP_MD_CTX * ctx, const void *data, size_t len), (ctx, data, len))   \
    F(int, EVP_EncodeBlock, (unsigned char *out, const unsigned char *data, int len),              \
      (out, data, len))                                                                            \
    F(void, EVP_MD_CTX_free, (EVP_MD_CTX * ctx), (ctx))                                            \
    F(EVP_MD_CTX *, EVP_MD_CTX_new, (void), ())                                                    \
    F(EVP_MD *, EVP_MD_fetch, (OSSL_LIB_CTX * ctx, const char *name, const char *properties),      \
      (ctx, name, properties))                                                                     \
    F(unsigned char *, HMAC,                                                                       \
      (const EVP_MD *md, const void *key, int key_len, const unsigned char *data, size_t len,      \
       unsigned char *out, unsigned int *size),                                                    \
      (md, key, key_len, data, len, out, size))

WA_LIBRARY(WA_CRYPTO_SONAME, FUNCTIONS);
FUNCTIONS(WA_LIBRARY_DEFINE)

wa_status
wa_crypto_load(wa_error *err)
{
    return wa_library_load(&library, err);
}
