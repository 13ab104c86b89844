package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/mqttc"
	"github.com/flotilla-mqtt/flotilla/transport/mqtt"
)

const defaultBroker = "mqtt://127.0.0.1:1883"

// mqttFlags are on every MQTT client.
func mqttFlags(extra ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "broker", Aliases: []string{"b"}, Value: defaultBroker, Usage: "`URL[,URL...]` with mqtt, mqtts, ws or wss"},
		&cli.StringFlag{Name: "mqtt-version", Value: "5", Usage: "`VERSION`: 3.1, 3.1.1 or 5"},
		&cli.StringFlag{Name: "username", Usage: "user `NAME`"},
		&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password"},
	}, extra...)
}

// brokers are the URLs of -b.
func brokers(c *cli.Context) ([]string, error) {
	urls := strings.Split(c.String("broker"), ",")
	for _, u := range urls {
		if _, err := mqttc.ParseURL(u); err != nil {
			return nil, err
		}
	}
	return urls, nil
}

// mqttOptions are the options that all MQTT clients share.
func mqttOptions(c *cli.Context) (mqttc.Options, error) {
	var o mqttc.Options
	switch v := c.String("mqtt-version"); v {
	case "3.1", "3":
		o.Version = mqtt.V31
	case "3.1.1":
		o.Version = mqtt.V311
	case "5", "5.0":
		o.Version = mqtt.V5
	default:
		return o, usagef("--mqtt-version %s: use 3.1, 3.1.1 or 5", v)
	}
	o.Username = c.String("username")
	if file := c.String("password-file"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return o, failf(exitUsage, "--password-file: %w", err)
		}
		o.Password = []byte(strings.TrimRight(string(b), "\r\n"))
	}
	o.KeepAlive = time.Minute
	return o, nil
}

func qosFlag() cli.Flag {
	return &cli.IntFlag{Name: "qos", Aliases: []string{"q"}, Usage: "quality of service `N`: 0, 1 or 2"}
}

func qosOf(c *cli.Context) (byte, error) {
	q := c.Int("qos")
	if q < 0 || q > 2 {
		return 0, usagef("--qos %d: use 0, 1 or 2", q)
	}
	return byte(q), nil
}

// seconds reads a time of a flag for MQTT, which counts in seconds.
func seconds(c *cli.Context, flag string) (uint32, error) {
	text := c.String(flag)
	if text == "" {
		return 0, nil
	}
	if text == "never" {
		return 0xFFFFFFFF, nil
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return 0, usagef("--%s: %w, or never", flag, err)
	}
	s := (d + time.Second - 1) / time.Second
	if s > 0xFFFFFFFE {
		return 0, usagef("--%s %s is too long: use never", flag, text)
	}
	return uint32(s), nil
}

// topicAlias takes the alias, which belongs to the packet, out of the list.
func topicAlias(list []string) (alias uint16, rest []string, err error) {
	for _, p := range list {
		value, ok := strings.CutPrefix(p, "topic-alias=")
		if !ok {
			rest = append(rest, p)
			continue
		}
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return 0, nil, usagef("-D %s: want a number from 1 to 65535", p)
		}
		alias = uint16(n)
	}
	return alias, rest, nil
}

// properties reads -D name=value into what travels with a message.
func properties(list []string) (props []byte, expiry uint32, hasExpiry bool, err error) {
	var m mqtt.MessageProps
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		switch {
		case !ok:
			return nil, 0, false, usagef("-D %s: want name=value", p)
		case strings.HasPrefix(name, "user."):
			m.UserProperties = append(m.UserProperties, mqtt.UserProperty{Key: name[len("user."):], Value: value})
		case name == "content-type":
			m.ContentType = value
		case name == "response-topic":
			m.ResponseTopic = value
		case name == "correlation-data":
			m.Correlation = []byte(value)
		case name == "payload-format" && (value == "utf8" || value == "bytes"):
			m.PayloadIsUTF8 = value == "utf8"
		case name == "message-expiry":
			d, err := config.ParseDuration(value)
			if err != nil {
				return nil, 0, false, usagef("-D message-expiry: %w", err)
			}
			expiry, hasExpiry = uint32((d+time.Second-1)/time.Second), true
		default:
			return nil, 0, false, &codedError{
				code: exitUsage, err: fmt.Errorf("-D %s: unknown property", p),
				hint: "known: content-type, response-topic, correlation-data, payload-format=utf8|bytes, message-expiry, topic-alias, user.NAME",
			}
		}
	}
	if props, err = m.Append(nil); err != nil {
		return nil, 0, false, failf(exitUsage, "-D: %w", err)
	}
	return props, expiry, hasExpiry, nil
}
