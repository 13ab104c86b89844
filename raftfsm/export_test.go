package raftfsm
