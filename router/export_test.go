package router

import (
	"hash/maphash"
	"unsafe"
)

func (t *Table) tenantHash(tenant string) uint64 { return maphash.String(t.stamps.seed, tenant) }

func (t *Table) topicHash(topic string) uint64 { return maphash.String(t.stamps.seed, topic) }

// unsafeString is a string whose bytes change under it.
func unsafeString(b []byte) string { return unsafe.String(&b[0], len(b)) }
