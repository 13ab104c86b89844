package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/cmd/flotilla/config"
)

func (a *app) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "check or print a node's configuration", Category: categoryRun,
		Subcommands: []*cli.Command{
			{
				Name: "check", Usage: "check a configuration file", ArgsUsage: "FILE",
				Description: "Faults are printed as FILE:LINE:COLUMN, a line each, with exit code 2. The files that it names\n(certificates, users) are opened, too.\n\n  flotilla config check /etc/flotilla/flotilla.yaml",
				Action:      action(1, 1, a.configCheck),
			},
			{
				Name: "dump", Usage: "print the configuration that start would use, and where each value comes from",
				Description: "It takes the flags of start, the variables FLOTILLA_* and the file.\n\n  flotilla config dump --effective --config flotilla.yaml --set raft.heartbeat=2s",
				Flags:       append(startFlags(), &cli.BoolFlag{Name: "effective", Usage: "with defaults and all sources (always so)"}),
				Action:      action(0, 0, a.configDump),
			},
		},
	}
}

func (a *app) configCheck(c *cli.Context) error {
	file := c.Args().First()
	r, err := config.Load(config.Input{File: file})
	if err != nil {
		return err
	}
	if err := checkFiles(&r); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: ok\n", file)
	return err
}

func (a *app) configDump(c *cli.Context) error {
	r, err := loadConfig(c)
	if err != nil {
		return err
	}
	for _, w := range r.Warnings {
		warn(a.errOut, "%s", w)
	}
	return r.Dump(a.out)
}

// startFlags are the flags of section 1: one per key that has one.
func startFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` (YAML)", Category: ""},
		&cli.StringSliceFlag{Name: "set", Usage: "set any other `KEY.PATH=VALUE` of the file; may be repeated"},
	}
	for _, k := range config.Keys() {
		switch {
		case k.Flag == "":
		case k.Bool:
			flags = append(flags, &cli.BoolFlag{Name: k.Flag, Usage: k.Help})
		default:
			flags = append(flags, &cli.StringFlag{Name: k.Flag, Usage: "`" + k.Arg + "`: " + k.Help})
		}
	}
	return flags
}

// loadConfig reads flags, environment and file.
func loadConfig(c *cli.Context) (config.Result, error) {
	in := config.Input{Flags: map[string]string{}, Sets: c.StringSlice("set"), Env: os.Environ(), File: c.String("config")}
	if in.File == "" {
		in.File = os.Getenv(config.EnvPrefix + "CONFIG")
	}
	for _, k := range config.Keys() {
		if k.Flag == "" || !c.IsSet(k.Flag) {
			continue
		}
		if k.Bool {
			in.Flags[k.Path] = fmt.Sprint(c.Bool(k.Flag))
			continue
		}
		in.Flags[k.Path] = c.String(k.Flag)
	}
	return config.Load(in)
}
