#!/bin/sh
echo from git
