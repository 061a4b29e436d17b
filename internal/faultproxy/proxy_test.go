package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo is a server that sends back what it gets, and counts it.
type echo struct {
	net.Listener
	running sync.WaitGroup
	mu      sync.Mutex
	got     int
	more    chan struct{}
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: listener, more: make(chan struct{})}
	e.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			e.running.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, io.TeeReader(conn, e))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		e.running.Wait()
	})
	return e
}

// Write counts.
func (e *echo) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got += len(p)
	close(e.more)
	e.more = make(chan struct{})
	return len(p), nil
}

// has waits until the server has got n bytes.
func (e *echo) has(n int) {
	for {
		e.mu.Lock()
		got, more := e.got, e.more
		e.mu.Unlock()
		if got >= n {
			return
		}
		<-more
	}
}

func start(t *testing.T) (*Proxy, *echo) {
	t.Helper()
	e := startEcho(t)
	p, err := New(e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the server's: its connections end then
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, e
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// receive wants exactly this text.
func receive(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("received %q %v, want %q", got, err, text)
	}
}

// silent wants nothing to arrive for a moment.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("received %d bytes, %v, want silence", n, err)
	}
}

// broken wants the connection to be reset, and returns what still arrived.
func broken(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection ended with %v, want a reset", err)
	}
	return got
}

func TestPassesEverythingOn(t *testing.T) {
	p, _ := start(t)
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	var clients sync.WaitGroup
	for range 4 {
		conn := dial(t, p)
		clients.Go(func() {
			go func() {
				_, _ = conn.Write(want)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(want))
			}
		})
	}
	clients.Wait()
	if s := p.Stats(); s.Connections != 4 || s.Bytes != [2]int64{12 << 20, 12 << 20} || s.Resets != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDelayKeepsOrderAndLosesNothing(t *testing.T) {
	p, _ := start(t)
	conn := dial(t, p)
	p.Delay(Both, 30*time.Millisecond)
	began := time.Now()
	for range 10 {
		send(t, conn, "0123456789")
	}
	receive(t, conn, string(bytes.Repeat([]byte("0123456789"), 10)))
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("took %v, want at least the two delays", took)
	}
}

func TestThrottle(t *testing.T) {
	p, _ := start(t)
	conn := dial(t, p)
	p.Throttle(ToClient, 10_000)
	text := string(bytes.Repeat([]byte("x"), 2000))
	began := time.Now()
	send(t, conn, text)
	receive(t, conn, text)
	if took := time.Since(began); took < 190*time.Millisecond {
		t.Errorf("2000 bytes took %v, want at least 200 ms", took)
	}
}

func TestHoldLosesNothing(t *testing.T) {
	p, e := start(t)
	conn := dial(t, p)
	send(t, conn, "before ")
	receive(t, conn, "before ")
	p.Hold(ToClient)
	send(t, conn, "held")
	e.has(len("before held"))
	silent(t, conn)
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	receive(t, conn, "held")
}

func TestVanishedConnectionStaysHalfOpen(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient, Both} {
		p, _ := start(t)
		conn := dial(t, p)
		send(t, conn, "before")
		receive(t, conn, "before")
		p.Vanish(dir)
		send(t, conn, "lost")
		silent(t, conn)
		if err := p.Heal(); err != nil {
			t.Fatal(err)
		}
		send(t, conn, "lost as well")
		silent(t, conn)
		other := dial(t, p)
		send(t, other, "new")
		receive(t, other, "new")
		if s := p.Stats(); s.Lost[ToServer]+s.Lost[ToClient] != int64(len("lost"+"lost as well")) {
			t.Errorf("direction %d: %+v", dir, s)
		}
	}
}

// A connection that sent nothing meanwhile has lost nothing.
func TestIdleConnectionOutlivesVanish(t *testing.T) {
	p, _ := start(t)
	conn := dial(t, p)
	send(t, conn, "before")
	receive(t, conn, "before")
	p.Vanish(Both)
	silent(t, conn)
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
	send(t, conn, "after")
	receive(t, conn, "after")
}

func TestResetInTheMiddleOfAMessage(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient} {
		p, _ := start(t)
		conn := dial(t, p)
		send(t, conn, "before")
		receive(t, conn, "before")
		p.ResetAfter(dir, 5)
		send(t, conn, "0123456789")
		if got := string(broken(t, conn)); len(got) > 5 || got != "0123456789"[:len(got)] {
			t.Errorf("direction %d: received %q", dir, got)
		}
		other := dial(t, p)
		send(t, other, "0123456789")
		receive(t, other, "0123456789")
	}
}

func TestCutAndRefuse(t *testing.T) {
	p, _ := start(t)
	conn, second := dial(t, p), dial(t, p)
	for _, c := range []net.Conn{conn, second} {
		send(t, c, "x")
		receive(t, c, "x")
	}
	if n := p.Cut(); n != 2 {
		t.Errorf("cut %d connections, want 2", n)
	}
	broken(t, conn)
	broken(t, second)
	third := dial(t, p)
	send(t, third, "x")
	receive(t, third, "x")
	if err := p.Refuse(); err != nil {
		t.Fatal(err)
	}
	broken(t, third)
	if c, err := net.Dial("tcp", p.Address()); err == nil {
		c.Close()
		t.Error("a connection was accepted")
	}
	for range 2 {
		if err := p.Heal(); err != nil {
			t.Fatal(err)
		}
	}
	fourth := dial(t, p)
	send(t, fourth, "x")
	receive(t, fourth, "x")
}

func TestServerThatIsAway(t *testing.T) {
	p, e := start(t)
	e.Close()
	if conn, err := net.Dial("tcp", p.Address()); err == nil { // else it was reset already
		t.Cleanup(func() { conn.Close() })
		broken(t, conn)
	}
	other := startEcho(t)
	p.SetTarget(other.Addr().String())
	conn := dial(t, p)
	send(t, conn, "x")
	receive(t, conn, "x")
	// Its server ends after the proxy: the cleanup of the first start runs last.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// Close ends what waits: for a delay, for a slow direction, for a healing that does not come.
func TestCloseWhileBytesWait(t *testing.T) {
	for name, fault := range map[string]func(*Proxy){
		"delay":    func(p *Proxy) { p.Delay(Both, time.Hour) },
		"throttle": func(p *Proxy) { p.Throttle(Both, 1) },
		"hold":     func(p *Proxy) { p.Hold(Both) },
		"vanish":   func(p *Proxy) { p.Vanish(Both) },
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := start(t)
			conn := dial(t, p)
			fault(p)
			send(t, conn, string(bytes.Repeat([]byte("x"), 5*chunkBytes)))
			silent(t, conn)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			broken(t, conn)
		})
	}
}
