package main

import (
	"bytes"
	"io"
	"sync"
)

// streamStarted is what the daemon logs right before it asks for the stream.
const streamStarted = `msg="stream started"`

// logLines keeps what a daemon logs, passes it on, and notices when the stream begins.
type logLines struct {
	also      io.Writer
	streaming chan struct{} // closed when the daemon asks for the stream

	mu      sync.Mutex
	content bytes.Buffer
	seen    bool
}

func newLogLines(also io.Writer) *logLines {
	return &logLines{also: also, streaming: make(chan struct{})}
}

// Write takes a piece of the log, which may be less than a line.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.content.Write(p)
	if !l.seen && bytes.Contains(l.content.Bytes(), []byte(streamStarted)) {
		l.seen = true
		close(l.streaming)
	}
	return l.also.Write(p)
}

func (l *logLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.content.String()
}
