package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flotilla-mqtt/flotilla/session/auth"
)

func (a *app) userCommand() *cli.Command {
	return &cli.Command{
		Name: "user", Usage: "users of the file backend", Category: categoryRun,
		Subcommands: []*cli.Command{{
			Name: "hash", Usage: "print the line of a users file for a user", ArgsUsage: "NAME",
			Description: "The password is asked for, or read from a file or from stdin. The line holds nothing that a client\n" +
				"could log in with; a node reads its file again with SIGHUP.\n\n" +
				"  flotilla user hash alice >> users.conf\n  flotilla user hash alice --password-file secret.txt",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password; - is stdin"},
				&cli.IntFlag{Name: "iterations", Usage: "rounds `N` of the password function; 0 is the default"},
			},
			Action: action(1, 1, a.userHash),
		}},
	}
}

func (a *app) userHash(c *cli.Context) error {
	password, err := a.newPassword(c.String("password-file"))
	if err != nil {
		return err
	}
	if len(password) == 0 {
		return usagef("the password is empty")
	}
	line, err := auth.Line(c.Args().First(), password, c.Int("iterations"))
	if err != nil {
		return &codedError{code: exitUsage, err: err}
	}
	_, err = fmt.Fprintln(a.out, line)
	return err
}

// newPassword reads a password once from a file, or twice from a terminal.
func (a *app) newPassword(file string) ([]byte, error) {
	switch {
	case file != "" && file != "-":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, failf(exitUsage, "--password-file: %w", err)
		}
		return bytes.TrimRight(b, "\r\n"), nil
	case file == "-" || !terminal(a.in):
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if line == "" && err != nil {
			return nil, usagef("no password: give one with --password-file FILE, or a line of stdin")
		}
		return []byte(strings.TrimRight(line, "\r\n")), nil
	}
	first, err := a.ask("password: ")
	if err != nil {
		return nil, err
	}
	second, err := a.ask("again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usagef("the two passwords differ")
	}
	return first, nil
}

// ask reads a line of the terminal without showing it.
func (a *app) ask(prompt string) ([]byte, error) {
	fmt.Fprint(a.errOut, prompt)
	defer fmt.Fprintln(a.errOut)
	restore := hideInput(a.in.(*os.File)) // newPassword has looked
	defer restore()
	var line []byte
	var b [1]byte
	for { // byte by byte: what follows belongs to the next question
		n, err := a.in.Read(b[:])
		if n == 0 || b[0] == '\n' {
			if err != nil && len(line) == 0 {
				return nil, failf(exitFailed, "read the password: %w", err)
			}
			return bytes.TrimRight(line, "\r"), nil
		}
		line = append(line, b[0])
	}
}
