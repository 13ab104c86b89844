package mqtt_test

import (
	"testing"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

func BenchmarkDecode(b *testing.B) {
	for _, c := range hotCases() {
		b.Run(c.name, func(b *testing.B) {
			r := c.reader(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(r.Size()))
		})
	}
}

// BenchmarkCopy is the share of BenchmarkDecode that the source of the bytes
// takes: 256 bytes of payload and what is around them.
func BenchmarkCopy(b *testing.B) {
	src := &loopReader{data: make([]byte, 297)}
	dst := make([]byte, 16<<10)
	b.SetBytes(297)
	have := 0
	for b.Loop() {
		if have < 297 {
			n, _ := src.Read(dst)
			have += n
		}
		have -= 297
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range hotCases() {
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = mqtt.Append(dst[:0], c.version, c.packet)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	for _, c := range hotCases() {
		p, ok := c.packet.(*mqtt.Publish)
		if !ok {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				dst = mqtt.AppendPublish(dst[:0], c.version, p)
			}
			b.SetBytes(int64(len(dst)))
		})
	}
}

// BenchmarkDecodeLarge decodes 256 KiB payloads, so that the buffer grows and
// shrinks all the time.
func BenchmarkDecodeLarge(b *testing.B) {
	c := hotCase{"", mqtt.V311, &mqtt.Publish{Topic: []byte("a/b"), Payload: make([]byte, 256<<10)}}
	r := c.reader(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(r.Size()))
}
