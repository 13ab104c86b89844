package main

import (
	"bufio"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

// memoryShare is the part of a container's memory that the heap may take; the
// rest is for stacks, the page cache of the stores and the kernel.
const memoryShare = 0.9

// limitMemory tells the collector what the container allows, which the runtime
// does not find out by itself. GOMEMLIMIT wins.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if n := containerMemory("/sys/fs/cgroup"); n > 0 {
		debug.SetMemoryLimit(int64(float64(n) * memoryShare))
	}
}

// containerMemory is the limit of the cgroup below root, or 0.
func containerMemory(root string) int64 {
	for _, file := range []string{"/memory.max", "/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(root + file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || n > 1<<50 {
			return 0 // "max", or the number that means so
		}
		return n
	}
	return 0
}

// memoryLimit is what the shares of limits.memory_high_watermark are of:
// GOMEMLIMIT, else what the container allows, else the machine's memory. 0 is
// unknown.
func memoryLimit() int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
			return n
		}
	}
	if n := containerMemory("/sys/fs/cgroup"); n > 0 {
		return n
	}
	return machineMemory("/proc/meminfo")
}

func machineMemory(file string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) >= 2 && words[0] == "MemTotal:" {
			n, err := strconv.ParseInt(words[1], 10, 52)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

// memoryMark is the high watermark in bytes, 0 for none.
func memoryMark(w config.Watermark, limit int64) int64 {
	if w.Percent > 0 {
		return limit / 100 * int64(w.Percent)
	}
	return w.Bytes
}
