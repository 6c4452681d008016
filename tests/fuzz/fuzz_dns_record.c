/*
 * Records as a resolver hands them over: the first byte says of which type the rest is.
 *
 * Checked: what is read is in the form that the headers promise, so that nobody behind must look again; an MX set
 * stays within its bounds, sorted and without doubles; what TLSA selection keeps is usable.
 */
#include "engine/core/check.h"
#include "proto/dns/exchangers.h"
#include "proto/dns/tlsa.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void name_check(const char *name)
{
    char again[DNS_NAME_BYTES];
    size_t length = strnlen(name, DNS_NAME_BYTES);
    check(length <= DNS_NAME_MAX);
    for (size_t i = 0; i < length; i++) {
        check((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              strchr("-_.", name[i]) != NULL);
    }
    if (length > 0) {
        check(dns_name_from_text(slice_text(name), again) == (int)length);
        check(strcmp(name, again) == 0);
    }
}

/* Records of up to 255 bytes, each behind its length. */
static struct slice record_take(struct slice *input)
{
    size_t size = input->size > 0 ? input->bytes[0] : 0;
    *input = slice_from(*input, 1);
    struct slice record = slice_first(*input, size);
    *input = slice_from(*input, record.size);
    return record;
}

static void exchangers_try(struct slice input)
{
    struct dns_exchangers exchangers;
    uint16_t preferences[DNS_EXCHANGERS_MAX];
    uint8_t order[DNS_EXCHANGERS_MAX];
    dns_exchangers_open(&exchangers);
    while (input.size > 0) {
        dns_exchangers_add(&exchangers, record_take(&input));
    }
    dns_exchangers_sort(&exchangers);
    check(exchangers.count <= DNS_EXCHANGERS_MAX);
    for (uint32_t i = 0; i < exchangers.count; i++) {
        name_check(exchangers.mx[i].exchange);
        check(exchangers.mx[i].exchange[0] != '\0');
        preferences[i] = exchangers.mx[i].preference;
        check(i == 0 || preferences[i] >= preferences[i - 1]);
        for (uint32_t j = 0; j < i; j++) {
            check(strcmp(exchangers.mx[i].exchange, exchangers.mx[j].exchange) != 0);
        }
    }
    dns_exchangers_shuffle(preferences, exchangers.count, exchangers.count, order);
    uint32_t left = dns_exchangers_cut(&exchangers, 256);
    check(left == 0 || exchangers.mx[left - 1].preference < 256);
}

static void tlsa_try(struct slice input)
{
    struct dns_tlsa records[32];
    size_t count = 0;
    while (input.size > 0 && count < 32) {
        count += dns_tlsa_read(record_take(&input), &records[count]) == 0;
    }
    size_t kept = dns_tlsa_select(records, count);
    check(kept <= count);
    for (size_t i = 0; i < kept; i++) {
        check(dns_tlsa_usable(&records[i]));
    }
}

static void address_try(struct slice input)
{
    struct endpoint address;
    enum dns_type type = input.size == 4 ? DNS_TYPE_A : DNS_TYPE_AAAA;
    if (dns_address_read(type, input, 25, &address) == 0) {
        char text[ENDPOINT_TEXT_MAX];
        struct endpoint again;
        endpoint_format(&address, text);
        check(endpoint_parse(&again, slice_text(text)) == 0 && endpoint_equal(&again, &address));
    }
}

static void name_try(struct slice input)
{
    char name[DNS_NAME_BYTES], prefixed[DNS_NAME_BYTES];
    if (dns_name_from_text(input, name) < 0) {
        return;
    }
    name_check(name);
    if (name[0] != '\0' && dns_name_with_prefix("_25._tcp", name, prefixed) > 0) {
        name_check(prefixed);
    }
    (void)dns_name_is_address(name);
}

static void text_try(struct slice input)
{
    char text[512];
    int length = dns_txt_read(input, text, sizeof(text));
    check(length <= (int)sizeof(text));
    for (int i = 0; i < length; i++) {
        check(memchr(input.bytes, text[i], input.size) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static void (*const tries[])(struct slice) = {exchangers_try, tlsa_try, address_try, name_try,
                                                  text_try};
    if (size > 0) {
        tries[bytes[0] % (sizeof(tries) / sizeof(tries[0]))](slice_of(bytes + 1, size - 1));
    }
    return 0;
}
