"""The matfn server: requests become few batched kernel calls, and every answer carries its certificate.

The way of the data, one type per arrow:

    bytes --wire--> wire.Call --admission--> Prepared --jobs--> Job --queue--> list of jobs of one key
          --assembly--> shares --executor--> Encoded --assembly--> Served --answers--> bytes
"""
