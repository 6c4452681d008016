#include "engine/conf/words.h"

const struct reader_word word_protocols[] = {
    {"smtp", CONF_PROTOCOL_SMTP}, {"lmtp", CONF_PROTOCOL_LMTP}, {NULL, 0}};
const struct reader_word word_durabilities[] = {
    {"commit", CONF_DURABILITY_COMMIT}, {"none", CONF_DURABILITY_NONE}, {NULL, 0}};
const struct reader_word word_urings[] = {
    {"auto", CONF_URING_AUTO}, {"on", CONF_URING_ON}, {"off", CONF_URING_OFF}, {NULL, 0}};
const struct reader_word word_levels[] = {{"error", CONF_LOG_ERROR},
                                          {"warning", CONF_LOG_WARNING},
                                          {"info", CONF_LOG_INFO},
                                          {"debug", CONF_LOG_DEBUG},
                                          {NULL, 0}};
const struct reader_word word_switches[] = {
    {"true", 1}, {"false", 0}, {"on", 1}, {"off", 0}, {NULL, 0}};
