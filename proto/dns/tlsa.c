#include "proto/dns/tlsa.h"

#include <errno.h>

int dns_tlsa_read(struct slice rdata, struct dns_tlsa *tlsa)
{
    if (rdata.size < 4) {
        return -EINVAL;
    }
    *tlsa = (struct dns_tlsa){.usage = rdata.bytes[0],
                              .selector = rdata.bytes[1],
                              .matching_type = rdata.bytes[2],
                              .data = slice_from(rdata, 3)};
    return 0;
}

bool dns_tlsa_usable(const struct dns_tlsa *tlsa)
{
    if ((tlsa->usage != DNS_TLSA_DANE_TA && tlsa->usage != DNS_TLSA_DANE_EE) ||
        tlsa->selector > DNS_TLSA_PUBLIC_KEY) {
        return false;
    }
    switch (tlsa->matching_type) {
    case DNS_TLSA_FULL:
        return tlsa->data.size > 0 && tlsa->data.size <= DNS_TLSA_DATA_MAX;
    case DNS_TLSA_SHA256:
        return tlsa->data.size == 32;
    case DNS_TLSA_SHA512:
        return tlsa->data.size == 64;
    default:
        return false;
    }
}

/* Does another digest of the same usage and selector outdo this one? Full data is beside the contest. */
static bool outdone(const struct dns_tlsa *records, size_t count, const struct dns_tlsa *tlsa)
{
    for (size_t i = 0; i < count; i++) {
        if (tlsa->matching_type != DNS_TLSA_FULL && records[i].usage == tlsa->usage &&
            records[i].selector == tlsa->selector &&
            records[i].matching_type > tlsa->matching_type) {
            return true;
        }
    }
    return false;
}

size_t dns_tlsa_select(struct dns_tlsa *records, size_t count)
{
    size_t usable = 0, kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (dns_tlsa_usable(&records[i])) {
            records[usable++] = records[i];
        }
    }
    /* What outdoes a record is never outdone by it, so leaving some out on the way changes nothing:
     * the strongest of each kind stays until the end. */
    for (size_t i = 0; i < usable; i++) {
        struct dns_tlsa tlsa = records[i];
        if (!outdone(records, kept, &tlsa) && !outdone(records + i, usable - i, &tlsa)) {
            records[kept++] = tlsa;
        }
    }
    return kept;
}
