package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// link is a client's connection and the one to the server that belongs to it.
type link struct {
	proxy       *Proxy
	front, back net.Conn
	once        sync.Once
	ended       chan struct{} // closed by end
}

// A direction buffers chunks of this size, this many.
const (
	chunkBytes = 16 << 10
	chunks     = 64
)

// chunk is what was read at once, and when it may arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// errReset says that a fault of ours ended the link.
var errReset = errors.New("link reset")

// run passes bytes on until both directions have ended.
func (l *link) run() {
	var both sync.WaitGroup
	both.Go(func() { l.pass(ToServer, l.back, l.front) })
	both.Go(func() { l.pass(ToClient, l.front, l.back) })
	both.Wait()
	l.end(func(conn net.Conn) { _ = conn.Close() }) // both have said that they end: what is under way still arrives
}

// reset ends both connections with a reset.
func (l *link) reset() { l.end(reset) }

func (l *link) end(how func(net.Conn)) {
	l.once.Do(func() {
		close(l.ended)
		how(l.front)
		how(l.back)
	})
}

// pass passes one direction on. An end is passed on as an end, anything else as a reset.
func (l *link) pass(dir Direction, to, from net.Conn) {
	queue := make(chan chunk, chunks)
	var reading sync.WaitGroup
	var readErr error
	reading.Go(func() {
		defer close(queue)
		readErr = l.read(dir, from, queue)
	})
	err := l.write(dir, to, queue)
	if err != nil {
		l.reset()
		for range queue { // the reader sees that the link has ended
		}
	}
	reading.Wait()
	switch {
	case err != nil:
	case errors.Is(readErr, errVanished): // the other side is not told
	case errors.Is(readErr, io.EOF):
		if tcp, ok := to.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // it may have ended as well
		}
	default:
		l.reset()
	}
}

// errVanished says that a direction has lost bytes and has then ended.
var errVanished = errors.New("direction has vanished")

// read reads what is sent. Once something was lost everything is.
func (l *link) read(dir Direction, from net.Conn, queue chan<- chunk) error {
	dead := false
	for {
		data := make([]byte, chunkBytes)
		n, err := from.Read(data)
		now, _ := l.proxy.way(dir)
		dead = dead || now.vanish
		switch {
		case dead:
			l.proxy.lost(dir, n)
			if err != nil {
				return errVanished
			}
			continue
		case n > 0:
			select {
			case queue <- chunk{data[:n], time.Now().Add(now.delay)}:
			case <-l.ended:
				return errReset
			}
		}
		if err != nil {
			return err
		}
	}
}

// write lets bytes arrive when they may.
func (l *link) write(dir Direction, to net.Conn, queue <-chan chunk) error {
	for c := range queue {
		if err := l.wait(time.Until(c.due)); err != nil {
			return err
		}
		for len(c.data) > 0 {
			n, err := l.admit(dir, len(c.data))
			if err != nil {
				return err
			}
			n, cut := l.proxy.arrive(dir, n)
			if _, err := to.Write(c.data[:n]); err != nil {
				return err
			}
			if cut {
				return errReset
			}
			c.data = c.data[n:]
		}
	}
	return nil
}

// slice is the time for which a throttled direction lets bytes pass at once.
const slice = 20 * time.Millisecond

// admit waits until bytes may arrive, and returns how many of n.
func (l *link) admit(dir Direction, n int) (int, error) {
	for {
		now, changed := l.proxy.way(dir)
		if now.hold {
			select {
			case <-changed:
				continue
			case <-l.ended:
				return 0, errReset
			}
		}
		if now.rate > 0 {
			n = min(n, max(1, int(int64(now.rate)*int64(slice)/int64(time.Second))))
			return n, l.wait(time.Duration(n) * time.Second / time.Duration(now.rate))
		}
		return n, nil
	}
}

// wait waits unless the link ends.
func (l *link) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-l.ended:
		return errReset
	}
}
