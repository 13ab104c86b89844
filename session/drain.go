package session

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

// drainTick is how often a drain disconnects its share of clients.
const drainTick = 100 * time.Millisecond

// moved makes a refusal of a drain name the server to go to, if there is one.
func (s *Server) moved(err error) error {
	if s.cfg.Redirect == nil {
		return err
	}
	if to := s.cfg.Redirect(); to != "" {
		return &RefusedError{Code: mqtt.UseAnotherServer, Msg: "node is drained", Server: to}
	}
	return err
}

// drained is why a drain closes a connection. v5:MQTT 4.11
func (s *Server) drained() cause {
	why := causeOf(closeDrain, "node is drained")
	if why.server = referenceOf(s.moved(nil)); why.server != "" {
		why.code = mqtt.UseAnotherServer
	}
	return why
}

// Drain refuses new clients and disconnects the others at rate per second with
// 0x98 or 0x9C (v5), until none is left or ctx ends.
func (s *Server) Drain(ctx context.Context, rate int) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.ev.log(zap.InfoLevel, evDrainBegin, "disconnecting clients", zap.Int64("clients", s.live.Load()), zap.Int("rate", rate))
	t := time.NewTicker(drainTick)
	defer t.Stop()
	credit := 0.0
	for {
		credit += float64(max(rate, 1)) * drainTick.Seconds()
		all := s.conns()
		for _, c := range all {
			if credit < 1 {
				break
			}
			if !c.closing.Load() {
				credit--
				c.close(s.drained())
			}
		}
		credit = min(credit, 1)
		if len(all) == 0 && s.live.Load() == 0 {
			s.ev.log(zap.InfoLevel, evDrainEnd, "no client is left")
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Undrain accepts clients again.
func (s *Server) Undrain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = false
}

// Stop refuses new connections, disconnects every client with 0x8B and joins
// every goroutine. When ctx ends it cuts the connections and still joins: what
// it waits for then are calls of the backend, whose contexts have ended.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	// First the connections, then the wheel: it would find nobody.
	all := s.conns()
	for _, c := range all {
		c.close(causeOf(closeShutdown, "node is stopping"))
	}
	s.wheel.stop()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range all {
		_ = c.nc.Close()
	}
	<-done
	return ctx.Err()
}
