"""From a candidate's run to a GateReport: baseline, comparability, screen, confirmation.

    gate          one judgement of a run, from the history and the repository to the report
     ├ repository     what git says: where HEAD left the baseline's branch, and what lies before
     ├ pins           the runs that were accepted, one file for each machine
     ├ baseline       which stored runs a judgement compares with
     └ flow           the verdicts
         ├ comparability  what must be the same, and what is named and judged all the same
         ├ comparisons    phases of cases, each with its history, its rule and its noise
         ├ confirming     looks at fresh pairs for all that is undecided
         └ verdicts       cases as they are reported: shares, budgets, notes

    compare       the same of stored runs that a user names, without measuring

`repository` asks git and `pins` reads and writes files; `gate` wires them. The rest is pure.
"""
