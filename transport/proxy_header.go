package transport

func (p *ClientPort) readProxy(t *tracked) error { return nil }
